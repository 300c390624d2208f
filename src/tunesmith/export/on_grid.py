"""What was trained on a grid of ONNX ships as it was trained: the base in 4 or 8 bits, the adapter beside it in floating point.

Merged, the adapter would be lost: values on a grid quantize to themselves, and what the adapter adds to them is less than half a step, so
rounding takes it away again. So the base is built alone, which gives the very codes it was trained on, and each adapted product ``y = W x``
becomes ``y = W x + B (A x)`` in the graph.

Here is what is taken from the adapter, and which product of the graph it belongs to; ``low_rank_nodes`` writes it there.
"""

from __future__ import annotations

import logging
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.errors import ModelError, UsageError
from tunesmith.export.decoder import GENAI_CONFIG, MODEL_FILE, check_builder, finish_decoder, run_builder
from tunesmith.export.low_rank_nodes import AdapterPrecision, LowRank, Part, add_low_rank
from tunesmith.export.source import ExportSource
from tunesmith.methods.adapters import load_adapter
from tunesmith.methods.grid import BLOCK_SIZE
from tunesmith.models.load import load_model
from tunesmith.models.quiet import quiet_libraries

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

    from tunesmith.export.targets import Recipe

log = logging.getLogger(__name__)

#: Constants below so many bytes stay in the graph itself: onnxruntime works out shapes from them before it opens the data file.
_INSIDE = 256
#: What lies in one product of the builder's, in the order of its outputs.
_PACKED = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}
_LAYER = re.compile(r"layers\.(\d+)\.(self_attn|mlp)\.(\w+)$")
_NAMES = {"dense": "o_proj"}


def precision_trained_on(source: ExportSource) -> str | None:
    """Return the precision whose grid a decoder was trained on, None for one that was not."""
    if source.kind != "decoder" or source.grid is None:
        return None
    return {"onnx-int4": "int4", "onnx-int8": "int8"}.get(str(source.grid.get("quant_type")))


def ships_unmerged(source: ExportSource, precision: str) -> bool:
    """Return whether a model was trained on the grid that this precision has, so that base and adapter ship as they were trained."""
    return precision_trained_on(source) == precision


def check_grid_options(options: Mapping[str, Any]) -> None:
    """Refuse options of the builder under which the base would lie on another grid than in training.

    Raises:
        UsageError: naming them.
    """
    fixed = {"block_size": str(BLOCK_SIZE), "is_symmetric": "true", "algo_config": "default"}
    for name, value in options.items():
        if name in fixed and str(value).lower() != fixed[name]:
            message = f"{name}={value} is another grid than the adapter was trained on ({name}={fixed[name]})"
            raise UsageError(message, fix=f"Leave {name} out, or train again on the grid that is to ship")
        if name in ("op_types_to_quantize", "nodes_to_exclude", "matmul_mixed_precision", "adapter_path", "use_qdq"):
            raise UsageError(f"{name} would put the base off the grid that the adapter was trained on", fix="Leave it out")


def build_on_grid(source: ExportSource, folder: Path, recipe: Recipe, *, adapter_precision: AdapterPrecision) -> None:
    """Write the base in few bits with the adapter beside it into ``folder``: what :func:`~tunesmith.export.decoder.build_decoder` writes.

    Args:
        source: trained on the grid, see :func:`ships_unmerged`.
        folder: exists, empty.
        recipe: of the precision that it was trained on.
        adapter_precision: see :data:`tunesmith.export.low_rank_nodes.AdapterPrecision`.

    Raises:
        ModelError: for an adapter that is no plain LoRA, or layers that the builder has no product of their own for.
    """
    check_builder()
    low_rank, sizes = _read_adapter(source)
    excluded = [f"/{name}/MatMul" for name in source.grid.get("excluded", ()) if name == "lm_head"] if source.grid else []
    options = {**recipe.options, "fuse_mlp_gate_up": True, **({"nodes_to_exclude": excluded} if excluded else {})}
    with tempfile.TemporaryDirectory(prefix=".base-", dir=folder) as temporary:
        base = Path(temporary)
        run_builder(source.places.base.folder, base, replace(recipe, options=options), trust_remote_code=source.trust_remote_code)
        _add_adapter(base / MODEL_FILE, folder / MODEL_FILE, low_rank, sizes, adapter_precision)
        shutil.copyfile(base / GENAI_CONFIG, folder / GENAI_CONFIG)
    finish_decoder(source, folder)


def unmerged_model(source: ExportSource) -> nn.Module:
    """Return the base with the values of the grid, in float32, and the adapter beside it: what was trained."""
    assert source.places.adapter is not None
    return load_adapter(_base(source), source.places.adapter)


def _base(source: ExportSource) -> PreTrainedModel:
    return load_model(source.places.base, dtype="float32", device="cpu", trust_remote_code=source.trust_remote_code)


def _read_adapter(source: ExportSource) -> tuple[dict[str, LowRank], dict[str, int]]:
    """Return what the adapter adds, by the name of the layer in the base, and how many outputs every linear layer has."""
    from torch.nn import Linear

    assert source.places.adapter is not None
    base = _base(source)
    sizes = {name: module.out_features for name, module in base.named_modules() if isinstance(module, Linear)}
    names = {id(module): name for name, module in base.named_modules()}
    return _low_rank_parts(load_adapter(base, source.places.adapter), names), sizes


def _low_rank_parts(model: nn.Module, names: Mapping[int, str]) -> dict[str, LowRank]:
    from peft.tuners.lora import Linear as LoraLinear
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    found: dict[str, LowRank] = {}
    for module in model.modules():
        if isinstance(module, AuxiliaryTrainingWrapper):
            raise _cannot_stay_beside("whole modules were trained beside it (modules_to_save, new tokens)")
        if not isinstance(module, BaseTunerLayer):
            continue
        adapters: Sequence[str] = getattr(module, "active_adapters", ())
        if not isinstance(module, LoraLinear) or len(adapters) != 1:
            raise _cannot_stay_beside(f"{type(module).__name__} is no plain LoRA of a linear layer")
        name = adapters[0]
        if module.use_dora.get(name) or module.lora_bias.get(name):
            raise _cannot_stay_beside("it is DoRA, or has biases")
        a, b = module.lora_A[name].weight.detach().float(), module.lora_B[name].weight.detach().float()
        found[names[id(module.get_base_layer())]] = LowRank(a.numpy(), (b * module.scaling[name]).numpy())
    return found


def _cannot_stay_beside(why: str) -> ModelError:
    message = f"the adapter can't stay beside the quantized base that it was trained on: {why}"
    return ModelError(message, fix="Export it merged: --precision fp32, of an int4 base int8 too")


def _add_adapter(base: Path, out: Path, low_rank: Mapping[str, LowRank], sizes: Mapping[str, int], precision: AdapterPrecision) -> None:
    """Read the graph ``base``, put the adapter into it, and write it with its data file to ``out``."""
    import onnx_ir as ir

    model = ir.load(base)
    nodes = {str(node.name): node for node in model.graph}
    for name, products in _by_product(low_rank, sizes, nodes).items():
        add_low_rank(model.graph, nodes[name], products, precision)
    model.graph.sort()
    with quiet_libraries():
        ir.save(model, out, external_data=f"{MODEL_FILE}.data", size_threshold_bytes=_INSIDE)


def _by_product(low_rank: Mapping[str, LowRank], sizes: Mapping[str, int], nodes: Mapping[str, Any]) -> dict[str, list[Part]]:
    """Return what is added to each product of the graph, by the name of its node; layers in one product are together."""
    parts: dict[str, list[Part]] = {}
    for layer, factors in low_rank.items():
        node, start, width = _product_of(layer, sizes, nodes)
        parts.setdefault(node, []).append(Part(layer.replace(".self_attn.", ".attn."), factors, start, width))
    return {node: sorted(found, key=lambda part: part.start) for node, found in parts.items()}


def _product_of(layer: str, sizes: Mapping[str, int], nodes: Mapping[str, Any]) -> tuple[str, int, int]:
    """Return the node that computes a layer of the base, the first of its outputs that is this layer's, and how many it has."""
    found = _LAYER.search(layer)
    prefix = f"/model/layers.{found[1]}/{'attn' if found[2] == 'self_attn' else 'mlp'}" if found else ""
    own = _NAMES.get(found[3], found[3]) if found else layer
    node = _node_named(f"{prefix}/{own}/MatMul", nodes)
    if node is not None:
        return node, 0, sizes[layer]
    for packed, members in _PACKED.items():
        node = _node_named(f"{prefix}/{packed}/MatMul", nodes)
        if own in members and node is not None:
            around = layer.removesuffix(own)
            starts = [sizes[f"{around}{member}"] for member in members]
            return node, sum(starts[: members.index(own)]), sum(starts)
    raise _cannot_stay_beside(f"the exported graph has no product for {layer}")


def _node_named(name: str, nodes: Mapping[str, Any]) -> str | None:
    return next((found for found in (f"{name}_Q4", f"{name}_Q8", name) if found in nodes), None)
