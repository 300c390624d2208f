"""An adapter in an ONNX graph, beside the products that it was trained beside: ``y = W x`` becomes ``y = W x + B (A x)``.

Legend: K inputs and N outputs of a product, R rank. Layers that the graph computes in one product (q, k and v; gate and up) get one A of
all their ranks, and one B with the blocks of each on its diagonal: two products and one sum in place of six and three. In the file each
layer has its own factors, as in training; they are put together once, while onnxruntime loads the graph.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tunesmith.errors import ModelError

if TYPE_CHECKING:
    import numpy.typing as npt
    import onnx_ir as ir

    Matrix = npt.NDArray[np.float32]

#: How the factors are kept: as trained (``fp32``), in half of that (``fp16``), both computed in float32; or in 8 bits with a scale a block
#: (``int8``), computed by the kernel that computes the base too.
AdapterPrecision = Literal["fp32", "fp16", "int8"]
ADAPTER_PRECISIONS: tuple[AdapterPrecision, ...] = ("fp32", "fp16", "int8")
_CONTRIB = "com.microsoft"
#: Activations of the base's products become 8 bits too.
_ACCURACY_LEVEL = 4


@dataclass(frozen=True)
class LowRank:
    """What an adapter adds to one layer: ``B (A x)``.

    Attributes:
        a: ``(R, K)``.
        b: ``(N, R)``, the adapter's scaling in it.
    """

    a: Matrix
    b: Matrix


@dataclass(frozen=True)
class Part:
    """One adapted layer in a product of the graph.

    Attributes:
        name: of the layer.
        factors: what is added to it.
        start: the first of the product's outputs that is this layer's.
        width: outputs of the product.
    """

    name: str
    factors: LowRank
    start: int
    width: int


def add_low_rank(graph: ir.Graph, node: ir.Node, parts: Sequence[Part], precision: AdapterPrecision) -> None:
    """Put what an adapter adds behind a product, for everything that reads it.

    Args:
        graph: changed in place.
        node: the product; its first input is ``x``, its first output ``y``.
        parts: the adapted layers in it, by their first output.
        precision: of the factors.

    Raises:
        ModelError: for values that the precision can't hold.
    """
    x, y = node.inputs[0], node.outputs[0]
    assert x is not None
    users, is_output = list(y.uses()), y in graph.outputs
    build = _Branch(graph, f"{re.sub(r'(/MatMul)?(_Q[48])?$', '', str(node.name))}/lora", y.dtype)
    total = build.eight_bits(x, y, parts) if precision == "int8" else build.floats(x, y, parts, precision)
    total.shape = y.shape
    for use in users:
        use.node.replace_input_with(use.idx, total)
    if is_output:
        total.name, y.name = y.name, f"{build.name}/y"
        graph.outputs[graph.outputs.index(y)] = total
    graph.insert_after(node, build.new)


class _Branch:
    """The nodes of one branch, in the order in which they compute."""

    def __init__(self, graph: ir.Graph, name: str, dtype: ir.DataType | None) -> None:
        import onnx_ir as ir

        self.graph, self.name, self.new = graph, name, list[ir.Node]()
        self._dtype = dtype or ir.DataType.FLOAT

    def floats(self, x: ir.Value, y: ir.Value, parts: Sequence[Part], precision: str) -> ir.Value:
        a = self._joined([self._factor(f"{part.name}.lora_A.weight", part.factors.a, precision) for part in parts], "A", axis=1)
        rows = [self._padded(self._factor(f"{part.name}.lora_B.weight", part.factors.b, precision), part) for part in parts]
        b = self._joined(rows, "B", axis=0)
        added = self._node("MatMul", [self._node("MatMul", [x, a], "A/MatMul"), b], "B/MatMul")
        return self._node("Add", [y, added], "Add")

    def eight_bits(self, x: ir.Value, y: ir.Value, parts: Sequence[Part]) -> ir.Value:
        a = np.concatenate([part.factors.a for part in parts])
        small = self._product(x, a, "A", parts[0].name)
        added = self._product(small, block_diagonal(parts), "B", parts[0].name)
        return self._node("Add", [y, added], "Add")

    def _factor(self, name: str, matrix: Matrix, precision: str) -> ir.Value:
        """A factor as ``(inputs, outputs)`` in float32; kept as in training, and in half precision where that is asked for."""
        import onnx_ir as ir

        value = self._constant(name, _half(matrix) if precision == "fp16" else matrix)
        if precision == "fp16":
            value = self._node("Cast", [value], f"{name}/Cast", {"to": int(ir.DataType.FLOAT)})
        return self._node("Transpose", [value], f"{name}/Transpose", {"perm": [1, 0]})

    def _padded(self, value: ir.Value, part: Part) -> ir.Value:
        """``(R, N of the layer)`` -> ``(R, N of the product)``: zeros for the outputs of other layers."""
        after = part.width - part.start - len(part.factors.b)
        if part.start == 0 and after == 0:
            return value
        pads = self._constant(f"{part.name}.lora_B.pads", np.array([0, part.start, 0, after], dtype=np.int64))
        return self._node("Pad", [value, pads], f"{part.name}.lora_B/Pad")

    def _joined(self, values: Sequence[ir.Value], which: str, *, axis: int) -> ir.Value:
        return values[0] if len(values) == 1 else self._node("Concat", values, f"{which}/Concat", {"axis": axis})

    def _product(self, x: ir.Value, matrix: Matrix, which: str, layer: str) -> ir.Value:
        """``x`` times a matrix ``(N, K)`` in 8 bits, as ``MatMulNBits``."""
        outputs, inputs = matrix.shape
        block = 32 if inputs % 32 == 0 else 16
        codes, scales = quantize_8bits(matrix, block)
        name = f"{layer}.lora_{which}.int8"
        constants = [self._constant(name, codes), self._constant(f"{name}_scales", scales)]
        options = {"K": inputs, "N": outputs, "bits": 8, "block_size": block, "accuracy_level": _ACCURACY_LEVEL}
        return self._node("MatMulNBits", [x, *constants], f"{which}/MatMul_Q8", options, domain=_CONTRIB)

    def _constant(self, name: str, array: npt.NDArray[Any]) -> ir.Value:
        import onnx_ir as ir

        if not np.isfinite(array).all():
            raise ModelError(f"the adapter has values in {name} that {array.dtype} can't hold", fix="Use --adapter_precision fp32")
        tensor = ir.tensor(np.ascontiguousarray(array), name=name)
        value = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
        self.graph.register_initializer(value)
        return value

    def _node(
        self, op_type: str, inputs: Sequence[ir.Value], name: str, options: dict[str, Any] | None = None, *, domain: str = ""
    ) -> ir.Value:
        import onnx_ir as ir

        node = ir.node(op_type, inputs, attributes=options or {}, domain=domain, name=f"{self.name}/{name}")
        self.new.append(node)
        value = node.outputs[0]
        value.name, value.type = f"{node.name}/output_0", ir.TensorType(self._dtype)
        return value


def _half(matrix: Matrix) -> npt.NDArray[np.float16]:
    """In half precision; what is too large becomes infinite, which is refused where it is stored."""
    with np.errstate(over="ignore"):
        return matrix.astype(np.float16)


def block_diagonal(parts: Sequence[Part]) -> Matrix:
    """Return B of a whole product: ``(N of the product, sum of R)``, the block of each layer at its outputs and its ranks."""
    b = np.zeros((parts[0].width, sum(part.factors.b.shape[1] for part in parts)), dtype=np.float32)
    at = 0
    for part in parts:
        outputs, rank = part.factors.b.shape
        b[part.start : part.start + outputs, at : at + rank] = part.factors.b
        at += rank
    return b


def quantize_8bits(matrix: Matrix, block: int) -> tuple[npt.NDArray[np.uint8], Matrix]:
    """Round a matrix to 8 bits, ``(code - 128) * scale`` with ``scale = max|w| / 127`` of a block of inputs.

    Args:
        matrix: ``(N, K)``.
        block: inputs that share a scale.

    Returns: codes ``(N, blocks, block)`` and scales ``(N, blocks)``, as ``MatMulNBits`` reads them.
    """
    outputs, inputs = matrix.shape
    count = -(-inputs // block)
    blocks = np.zeros((outputs, count * block), dtype=np.float32)
    blocks[:, :inputs] = matrix
    blocks = blocks.reshape(outputs, count, block)
    scales = np.abs(blocks).max(axis=-1) / np.float32(127)
    steps = blocks / np.where(scales == 0, np.float32(1), scales)[..., None]
    return np.clip(np.rint(steps) + 128, 0, 255).astype(np.uint8), scales.astype(np.float32)
