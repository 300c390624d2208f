"""Any recipe for a decoder's weights as ONNX, without running the model builder again: what its products hold is replaced.

One folder that the builder made at int4 is the skeleton. Codes, scales, zero points, bits and block sizes of its ``MatMulNBits`` nodes are
replaced, and those of the ``GatherBlockQuantized`` node that reads the output layer's codes as the embedding; all else stays as it is, the
weights in floating point byte for byte. Both operators take 4 and 8 bits, every block size from 16 on, and zero points.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tunesmith.artifact import MANIFEST
from tunesmith.errors import ModelError
from tunesmith.export.blame import layer_name
from tunesmith.export.data_file import location, write_data
from tunesmith.export.decoder import MODEL_FILE, check_builder
from tunesmith.export.product_blocks import ProductBlocks, blocks_of, packed_codes, packed_zero_points, row_bytes

if TYPE_CHECKING:
    import numpy.typing as npt

    from tunesmith.export.recipes.blocks import Blocks

    Contents = Mapping[str, Callable[[], npt.NDArray[Any]]]

_CONTRIB = "com.microsoft"
_FLOAT, _UINT8 = 1, 2  # TensorProto
#: Activations of the products become 8 bits, where no other product says.
_ACCURACY_LEVEL = 4
#: What is said of the skeleton's weights is not true of the new ones; :func:`tunesmith.export.folder.write_extras` writes both.
_NOT_COPIED = frozenset({MANIFEST, "README.md"})


def write_codes(skeleton: Path, folder: Path, blocks: Mapping[str, Blocks]) -> None:
    """Write a folder like ``skeleton`` whose products hold ``blocks``.

    Args:
        skeleton: made by :func:`tunesmith.export.decoder.build_decoder` at int4 for the CPU.
        folder: exists, empty.
        blocks: by the names of layers in transformers, the output layer (``lm_head``) among them; an embedding tied to it shares its.
            Layers that the graph computes in one product are stored in one way. A product in floating point stays so where it has none.

    Raises:
        ModelError: naming a layer that the graph has no product for, or a product of the graph without blocks, or with others of another
            shape; and for a skeleton that can't be read.
    """
    check_builder()
    model = _read(skeleton / MODEL_FILE)
    contents = _Products(model.graph, blocks).replace()
    _copy_other_files(skeleton, folder, {location(tensor) for tensor in model.graph.initializer})
    write_data(model.graph, skeleton, folder / f"{MODEL_FILE}.data", contents)
    (folder / MODEL_FILE).write_bytes(model.SerializeToString())


def _read(file: Path) -> Any:
    import onnx

    try:
        return onnx.load(str(file), load_external_data=False)
    except Exception as error:  # protobuf's DecodeError among them, a class of a package that onnx alone needs
        raise ModelError(f"{file} is no ONNX file that can be read: {error}", fix="Build the int4 folder again") from error


@dataclass(frozen=True)
class _Names:
    """The initializers of a product."""

    codes: str
    scales: str
    zero_points: str

    @classmethod
    def of(cls, weight: str, bits: int) -> _Names:
        plain = weight.partition(".weight")[0] + ".weight"
        return cls(f"{plain}_Q{bits}", f"{plain}_scales", f"{plain}_zero_points")


class _Products:
    """The products of a graph, which is changed in place."""

    def __init__(self, graph: Any, blocks: Mapping[str, Blocks]) -> None:
        self._graph, self._blocks = graph, blocks
        self._stored = {tensor.name: tensor for tensor in graph.initializer}
        self._new: dict[str, tuple[_Names, ProductBlocks]] = {}  # by the weight that it was before
        self._weight_of: dict[str, str] = {}  # by the scales that it had before
        self._stale: set[str] = set()

    def replace(self) -> Contents:
        """Put the blocks into all nodes; return what the new initializers hold."""
        for node in self._graph.node:
            if node.op_type == "MatMulNBits":
                self._product(node)
            elif node.op_type == "MatMul" and node.input[1] in self._stored:
                self._float_product(node)
        self._check_all_used()
        nodes = [new for node in self._graph.node for new in self._around(node)]
        del self._graph.node[:]
        self._graph.node.extend(nodes)
        return dict(self._initializers())

    def _product(self, node: Any) -> None:
        weight = node.input[1]
        product = layer_name(weight).removesuffix(".weight")
        found = blocks_of(product, self._blocks)
        if found is None:
            raise ModelError(f"there are no codes for {product}, which the graph keeps in 4 bits (node {node.name})")
        options = {attribute.name: attribute.i for attribute in node.attribute}
        self._check_shape(node.name, found, options["N"], options["K"])
        self._check_float32(node.name, node.input[2])
        self._fill(node, found, options.get("accuracy_level", 0))

    def _float_product(self, node: Any) -> None:
        """A product that the builder left in floating point becomes one of blocks, where there are any for it."""
        weight = node.input[1]
        found = blocks_of(layer_name(weight).removesuffix(".weight"), self._blocks)
        if found is None:
            return
        if sum(weight in other.input for other in self._graph.node) > 1:
            raise ModelError(f"{found.layers[0]} has codes, but the graph uses its weights in floating point in another place too")
        self._check_float32(node.name, weight)
        inputs, outputs = self._stored[weight].dims
        self._check_shape(node.name, found, outputs, inputs)
        node.op_type, node.domain = "MatMulNBits", _CONTRIB
        _set_options(node, K=inputs, N=outputs)
        levels = [_option(other, "accuracy_level") for other in self._graph.node if other.op_type == "MatMulNBits"]
        self._fill(node, found, max(levels, default=_ACCURACY_LEVEL))

    def _check_float32(self, node: str, tensor: str) -> None:
        if self._stored[tensor].data_type != _FLOAT:
            message = f"node {node} computes in another type than float32, which the scales of the codes have"
            raise ModelError(message, fix="Build the int4 folder for the CPU")

    def _check_shape(self, node: str, found: ProductBlocks, outputs: int, inputs: int) -> None:
        blocks = found.blocks
        if (blocks.num_outputs, blocks.num_inputs) != (outputs, inputs):
            here = f"({blocks.num_outputs}, {blocks.num_inputs})"
            message = f"the codes of {', '.join(found.layers)} are {here} outputs and inputs, node {node} has ({outputs}, {inputs})"
            raise ModelError(message, fix="The int4 folder has to be built of the same model")

    def _fill(self, node: Any, found: ProductBlocks, accuracy_level: int) -> None:
        weight, stored = node.input[1], found.blocks.format
        names = _Names.of(weight, stored.bits)
        self._new[weight] = names, found
        self._weight_of |= dict.fromkeys(node.input[2:3], weight)
        self._stale |= set(node.input[1:4])
        inputs = [node.input[0], names.codes, names.scales, "" if stored.symmetric else names.zero_points, *node.input[4:]]
        while not inputs[-1]:
            inputs.pop()
        del node.input[:]
        node.input.extend(inputs)
        node.name = f"{node.name.removesuffix('_Q4').removesuffix('_Q8')}_Q{stored.bits}"
        _set_options(node, bits=stored.bits, block_size=stored.block_size, **({"accuracy_level": accuracy_level} if accuracy_level else {}))

    def _check_all_used(self) -> None:
        used = {name for _, found in self._new.values() for name in found.layers}
        unknown = [name for name in self._blocks if name not in used]
        if unknown:
            more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
            raise ModelError(f"the graph has no product for {', '.join(unknown[:3])}{more}", fix="Leave out what can't be stored in blocks")

    def _around(self, node: Any) -> Iterator[Any]:
        """Yield a node with what it needs before and behind it."""
        from onnx import helper, numpy_helper

        if node.op_type == "Reshape" and node.input[0] in self._new:
            names, found = self._new[node.input[0]]
            shape = np.array([found.blocks.num_outputs, row_bytes(found.blocks)], dtype=np.int64)
            name = f"{node.name}/shape"
            yield helper.make_node("Constant", [], [name], name=f"{name}/Constant", value=numpy_helper.from_array(shape))
            node.input[0], node.input[1] = names.codes, name
            self._stale.add(node.output[0])
            yield node
        elif node.op_type == "GatherBlockQuantized":
            yield from self._embedding(node)
        else:
            yield node

    def _embedding(self, node: Any) -> Iterator[Any]:
        """The embedding that reads the output layer's codes; what a row was filled up with is cut off behind it."""
        owner = next((self._new[self._weight_of[name]] for name in node.input[2:3] if name in self._weight_of), None)
        if owner is None:
            message = f"node {node.name} has codes of its own, not those of the output layer"
            raise ModelError(message, fix="Build the int4 folder with the builder's usual options")
        names, found = owner
        stored = found.blocks.format
        inputs = [*node.input[:2], names.scales, *([] if stored.symmetric else [names.zero_points])]
        del node.input[:]
        node.input.extend(inputs)
        _set_options(node, bits=stored.bits, block_size=stored.block_size)
        output = node.output[0]
        is_cut = any(other.op_type == "Slice" and other.input[0] == output for other in self._graph.node)
        if found.blocks.num_inputs % stored.block_size == 0 or is_cut:
            self._stale.add(output)
            yield node
            return
        node.output[0] = f"{output}/padded"
        yield node
        yield from _cut(node.output[0], output, found.blocks.num_inputs)

    def _initializers(self) -> Iterator[tuple[str, Callable[[], npt.NDArray[Any]]]]:
        """Put the new initializers where the old ones were, and yield what they hold."""
        from onnx import TensorProto

        kept: list[Any] = []
        for tensor in self._graph.initializer:
            if tensor.name in self._new:
                names, found = self._new[tensor.name]
                for name, kind, values in _parts(names, found.blocks):
                    kept.append(TensorProto(name=name, data_type=kind))
                    yield name, values
            elif tensor.name not in self._stale:
                kept.append(tensor)
        infos = [info for info in self._graph.value_info if info.name not in self._stale]
        del self._graph.initializer[:], self._graph.value_info[:]
        self._graph.initializer.extend(kept)
        self._graph.value_info.extend(infos)


def _parts(names: _Names, blocks: Blocks) -> Iterator[tuple[str, int, Callable[[], npt.NDArray[Any]]]]:
    yield names.codes, _UINT8, lambda: packed_codes(blocks)
    yield names.scales, _FLOAT, lambda: blocks.scales.float().numpy()
    if (points := packed_zero_points(blocks)) is not None:
        yield names.zero_points, _UINT8, lambda: points


def _cut(padded: str, output: str, width: int) -> Iterator[Any]:
    """Nodes that keep the first ``width`` values of the last dimension."""
    from onnx import helper, numpy_helper

    bounds = []
    for what, value in (("starts", 0), ("ends", width), ("axes", -1)):
        bounds.append(f"{output}/{what}")
        constant = numpy_helper.from_array(np.array([value], dtype=np.int64))
        yield helper.make_node("Constant", [], [bounds[-1]], name=f"{bounds[-1]}/Constant", value=constant)
    yield helper.make_node("Slice", [padded, *bounds], [output], name=f"{output}/Slice")


def _option(node: Any, name: str) -> int:
    return next((int(attribute.i) for attribute in node.attribute if attribute.name == name), 0)


def _set_options(node: Any, **options: int) -> None:
    from onnx import helper

    kept = [attribute for attribute in node.attribute if attribute.name not in options]
    del node.attribute[:]
    node.attribute.extend([*kept, *(helper.make_attribute(name, value) for name, value in options.items())])


def _copy_other_files(skeleton: Path, folder: Path, data_files: set[str]) -> None:
    for file in sorted(skeleton.iterdir()):
        if file.is_file() and file.name not in data_files | _NOT_COPIED | {MODEL_FILE} and not file.name.startswith("."):
            shutil.copyfile(file, folder / file.name)
