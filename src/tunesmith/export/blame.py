"""Weights read back out of exported ONNX graphs: those of the model builder and of onnxruntime's quantizer.

Legend: O outputs, I inputs, B blocks of a row; matrices are ``(O, I)``, as transformers stores them.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.export.weights import FLOAT_ERROR, HALF_ERROR, Audit, TunedWeights, audit

if TYPE_CHECKING:
    from torch import nn

    from tunesmith.export.weights import Weight

log = logging.getLogger(__name__)

Exported = tuple[str, "Weight", "Weight | None", float]
_HALF = frozenset({10, 16})  # TensorProto.FLOAT16, BFLOAT16
#: Tables that every graph of a rotary model has, made from its configuration.
_MADE = frozenset({"cos_cache", "sin_cache", "inv_freq"})


def audit_onnx(file: Path, tuned: Callable[[], nn.Module], *, rounded: bool = True, on_grid: bool = False) -> Audit:
    """Compare the weights of an ONNX file with the tuned model's, one matrix in memory at a time.

    Args:
        file: with its data file beside it.
        tuned: gives the tuned model in float32.
        rounded, on_grid: see :class:`tunesmith.export.weights.Audit`.
    """
    return audit(onnx_weights(file), TunedWeights(tuned()), rounded=rounded, on_grid=on_grid)


def onnx_weights(file: Path) -> Iterator[Exported]:
    """Yield the weights of an ONNX file: name as in transformers, values, how far rounding can move each, how exact floats are."""
    import onnx

    graph = onnx.load(str(file), load_external_data=False).graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    read = _Reader(stored, file.parent)
    taken: set[str] = set()
    for node in graph.node:
        if node.op_type == "MatMulNBits":
            taken |= set(node.input[1:4])
            yield read.blocks(node)
        elif node.op_type == "GatherBlockQuantized":
            taken |= set(node.input)
            if (rows := read.gathered(node)) is not None:
                yield rows
    products = {node.input[1] for node in graph.node if node.op_type in ("MatMul", "MatMulInteger") and len(node.input) > 1}
    for name, tensor in stored.items():
        if name in taken or name in _MADE or name.endswith(("_scale", "_zero_point")):
            continue
        if name.endswith("_quantized") and f"{name.removesuffix('_quantized')}_scale" in stored:
            yield read.channels(name, transposed=name in products)
        elif tensor.data_type in (1, *_HALF) and tensor.dims and any(part in name for part in ("weight", "bias", "lora_")):
            yield read.floats(name, transposed=len(tensor.dims) == 2 and name in products)


class _Reader:
    """Reads initializers where they lie."""

    def __init__(self, stored: dict[str, Any], folder: Path) -> None:
        self._stored, self._folder = stored, str(folder)

    def array(self, name: str) -> Any:
        from onnx import numpy_helper

        return numpy_helper.to_array(self._stored[name], base_dir=self._folder)

    def floats(self, name: str, *, transposed: bool) -> Exported:
        """A matrix or vector in floating point."""
        import numpy as np

        values = self.array(name).astype(np.float32)
        exact = HALF_ERROR if self._stored[name].data_type in _HALF else FLOAT_ERROR
        return layer_name(name), values.T if transposed else values, None, exact

    def blocks(self, node: Any) -> Exported:
        """A matrix of ``MatMulNBits``: blocks along the inputs, ``(code - zero point) * scale``."""
        import numpy as np

        options = {attribute.name: attribute.i for attribute in node.attribute}
        outputs, inputs, bits, size = options["N"], options["K"], options.get("bits", 4), options["block_size"]
        count = -(-inputs // size)
        codes = _unpacked(self.array(node.input[1]).reshape(outputs, count, -1), bits)[:, :, :size]
        scales = self.array(node.input[2]).astype(np.float32).reshape(outputs, count, 1)
        zero: Any = float(1 << (bits - 1))
        if len(node.input) > 3 and node.input[3] in self._stored:
            packed = self.array(node.input[3])
            points = _unpacked(packed.reshape(outputs, -1), bits) if packed.dtype == np.uint8 else packed.reshape(outputs, -1)
            zero = points[:, :count, None].astype(np.float32)
        values = ((codes.astype(np.float32) - zero) * scales).reshape(outputs, -1)[:, :inputs]
        reach = (_reach(codes, bits) * scales).reshape(outputs, -1)[:, :inputs]
        return layer_name(node.input[1]), values, reach, FLOAT_ERROR

    def gathered(self, node: Any) -> Exported | None:
        """An embedding table in blocks; one that is the output layer's own codes was read there."""
        import numpy as np

        if node.input[0] not in self._stored or "lm_head" in node.input[0]:
            return None
        options = {attribute.name: attribute.i for attribute in node.attribute}
        bits, size = options.get("bits", 4), options.get("block_size", 128)
        packed, scales = self.array(node.input[0]), self.array(node.input[2]).astype(np.float32)
        rows = len(packed)
        codes = _unpacked(packed.reshape(rows, -1), bits) if packed.dtype == np.uint8 else packed.reshape(rows, -1)
        zero: Any = float(1 << (bits - 1)) if packed.dtype == np.uint8 else 0.0
        if len(node.input) > 3 and node.input[3] in self._stored:
            points = self.array(node.input[3]).reshape(rows, -1)
            points = _unpacked(points, bits) if points.dtype == np.uint8 else points
            zero = np.repeat(points[:, : scales.shape[1]], size, axis=1)[:, : codes.shape[1]].astype(np.float32)
        steps = np.repeat(scales.reshape(rows, -1), size, axis=1)[:, : codes.shape[1]]
        return layer_name(node.input[0]), (codes.astype(np.float32) - zero) * steps, _reach(codes, bits) * steps, FLOAT_ERROR

    def channels(self, name: str, *, transposed: bool) -> Exported:
        """A matrix of onnxruntime's quantizer: one scale a matrix or an output channel."""
        import numpy as np

        plain = name.removesuffix("_quantized")
        codes, scale = self.array(name).astype(np.float32), self.array(f"{plain}_scale").astype(np.float32)
        point = self.array(f"{plain}_zero_point").astype(np.float32) if f"{plain}_zero_point" in self._stored else np.float32(0)
        axis = 1 if codes.ndim == 2 and scale.size == codes.shape[1] and scale.size > 1 else 0
        shape = [-1 if place == axis else 1 for place in range(codes.ndim)]
        scale, point = (value.reshape(shape) if value.size > 1 else value.reshape(()) for value in (scale, np.asarray(point)))
        values, reach = (codes - point) * scale, _reach(codes, 8) * scale
        return layer_name(plain), (values.T if transposed else values), (reach.T if transposed else reach), FLOAT_ERROR


def _reach(codes: Any, bits: int) -> Weight:
    """Return how many steps rounding can move a weight: half a one, and a whole one at the ends, where it is cut off.

    Args:
        codes: unsigned of so many bits, or signed of 8.
    """
    import numpy as np

    lowest = -128 if bits == 8 and codes.dtype != np.uint8 and codes.min(initial=0) < 0 else 0
    ends = (codes <= lowest + (lowest < 0)) | (codes >= lowest + (1 << bits) - 1)
    reach: Weight = np.where(ends, np.float32(1), np.float32(0.5))
    return reach


def _unpacked(packed: Any, bits: int) -> Any:
    """Return the codes in the last dimension's bytes, the lower bits first."""
    import numpy as np

    if bits == 8:
        return packed
    if bits not in (2, 4):
        raise NotImplementedError(f"codes of {bits} bits")
    parts = [(packed >> shift) & ((1 << bits) - 1) for shift in range(0, 8, bits)]
    return np.stack(parts, axis=-1).reshape(*packed.shape[:-1], -1)


def layer_name(name: str) -> str:
    """Return a weight's name in a graph as transformers would call it.

    ``model.layers.0.attn.qkv_proj.MatMul.weight_Q4`` -> ``model.layers.0.attn.qkv_proj.weight``
    """
    plain = re.sub(r"\.lora_([AB])\.int8$", r".lora_\1.weight", name.lstrip("/"))
    plain = re.sub(r"\.weight_(Q\d+\w*|quant|scales|DQ_Q\d+)$", ".weight", plain)
    plain = re.sub(r"_(Q\d+)(G\d+)?$", "", plain)
    return re.sub(r"\.(MatMul|Add)(_Q\d+)?\.", ".", plain)
