"""A model on a grid that ships: the layers that onnxruntime-genai's model builder quantizes at ``-p int4`` or ``int8``, and no others."""

from __future__ import annotations

import functools
import logging
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch import Tensor, nn

from tunesmith.errors import ModelError
from tunesmith.methods import grid, grid_q4_0
from tunesmith.methods.grid import BLOCK_SIZE
from tunesmith.methods.grid_linear import GridEmbedding, GridLinear, Quantize
from tunesmith.models.structure import linear_names

if TYPE_CHECKING:
    from transformers import PreTrainedModel

log = logging.getLogger(__name__)

_QUANTIZERS: dict[str, Quantize] = {
    "onnx-int4": grid.quantize,
    "onnx-int8": functools.partial(grid.quantize, bits=8),
    "gguf-q4_0": grid_q4_0.quantize,
}
#: Attribute of a model on the grid: parameters that its dtype rounds, as they were, by name.
UNROUNDED = "unrounded_parameters"


def put_on_grid(
    model: PreTrainedModel, dtype: torch.dtype, *, excluded: Collection[str] = (), quant_type: str = "onnx-int4"
) -> dict[str, Any]:
    """Put the linear layers of the blocks and the output layer of ``model`` on the grid, in place, one after the other.

    The builder quantizes exactly these. An input embedding that is tied to the output layer takes that one's values, as there; one of its
    own, position embeddings, norms and biases stay in floating point and are converted to ``dtype``.

    Args:
        model: with its weights as the checkpoint has them: rounded to another dtype first, they would come to lie on another grid.
        dtype: what the model computes in.
        excluded: full names of layers to leave in floating point. Of a tied pair, one name leaves out both.
        quant_type: ``onnx-int4``, ``onnx-int8`` or ``gguf-q4_0``, where an input embedding of its own is on the grid too, as in GGUF files.

    Returns: the grid, as the manifest records it.
    """
    names = [name for name in (*linear_names(model), *_output_layer(model)) if name not in _with_tied(model, excluded)]
    tied_head = _tied_head(model)
    for name in names:
        _replace(model, name, GridLinear(model.get_submodule(name), _QUANTIZERS[quant_type]))
    if tied_head in names:
        _share_rows(model, model.get_submodule(tied_head), dtype)
    elif quant_type == "gguf-q4_0" and not tied_head and not _is_named(model.get_input_embeddings(), model, excluded):
        _share_rows(model, GridLinear(model.get_input_embeddings(), _QUANTIZERS[quant_type]), dtype)
    _convert_the_rest(model, dtype)
    if any(isinstance(layer, GridLinear | GridEmbedding) for layer in (model.get_input_embeddings(), model.get_output_embeddings())):
        model.resize_token_embeddings = _refuse_new_rows
    return {**grid_record(quant_type), "layers": len(names), "excluded": _in_floating_point(model)}


def grid_record(quant_type: str = "onnx-int4") -> dict[str, Any]:
    """Return what describes a grid, whatever the model."""
    gguf, bits = quant_type == "gguf-q4_0", 8 if quant_type == "onnx-int8" else 4
    return {
        "quant_type": quant_type,
        "operator": "Q4_0" if gguf else "MatMulNBits",
        "bits": bits,
        "block_size": BLOCK_SIZE,
        "symmetric": True,
        "zero_point": 1 << (bits - 1),
        "rounding": "rtn",
        "scales": "float16" if gguf else "float32",
    }


def _output_layer(model: PreTrainedModel) -> list[str]:
    """The name of the layer that makes logits over the vocabulary, where there is one."""
    head = model.get_output_embeddings()
    return [name for name, module in model.named_modules() if module is head and isinstance(module, nn.Linear)]


def _tied_head(model: PreTrainedModel) -> str:
    """The name of the output layer when it shares its weight with the input embedding, else nothing."""
    head = model.get_output_embeddings()
    tied = isinstance(head, nn.Linear) and head.weight is model.get_input_embeddings().weight
    return _output_layer(model)[0] if tied else ""


def _with_tied(model: PreTrainedModel, names: Collection[str]) -> set[str]:
    """``names``, and the output layer where the embedding that it is tied to is among them."""
    return {*names, _tied_head(model)} if _is_named(model.get_input_embeddings(), model, names) else set(names)


def _is_named(part: nn.Module, model: nn.Module, names: Collection[str]) -> bool:
    return any(module is part for name, module in model.named_modules() if name in names)


def _share_rows(model: PreTrainedModel, head: nn.Module, dtype: torch.dtype) -> None:
    """Make the input embedding read the rows of the output layer."""
    assert isinstance(head, GridLinear)
    embedding = model.get_input_embeddings()
    if type(embedding).forward is nn.Embedding.forward or hasattr(embedding, "embed_scale"):
        model.set_input_embeddings(GridEmbedding(embedding, head, dtype))
    else:  # a lookup that isn't known here keeps its module, with the values that ship
        embedding.weight = nn.Parameter(head.dequantize(dtype), requires_grad=False)


def _convert_the_rest(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Convert what is still in floating point to ``dtype``; buffers (rotary frequencies) stay as they are, as transformers leaves them."""
    unrounded: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        if not parameter.is_floating_point():
            continue
        converted = parameter.data.to(dtype)
        if not torch.equal(converted.to(parameter.dtype), parameter.data):
            unrounded[name] = parameter.data
        parameter.data = converted
    setattr(model, UNROUNDED, unrounded)
    model.config.dtype = dtype


def _in_floating_point(model: nn.Module) -> list[str]:
    """Names of the modules with weight matrices off the grid."""
    layers = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear | nn.Embedding)]
    return sorted(name for name, module in layers if module.weight.is_floating_point())


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)


def _refuse_new_rows(new_num_tokens: int | None = None, *_: object, **__: object) -> NoReturn:
    raise ModelError(
        f"the embedding of this model lies on the grid and can't get rows for new tokens (asked for {new_num_tokens} in all)",
        fix="Use --method lora or --quant_type nf4.",
    )
