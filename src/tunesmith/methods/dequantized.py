"""The quantized base written out as ordinary weights: what plain peft, plain transformers and every exporter read."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from tunesmith.methods.grid_linear import GridEmbedding, GridLinear
from tunesmith.methods.grid_model import UNROUNDED
from tunesmith.methods.nf4 import dequantize_nf4, is_nf4, nf4_dtype
from tunesmith.models.structure import causal_lm

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def dequantize_model(model: nn.Module, *, dtype: torch.dtype | None = None) -> PreTrainedModel:
    """Return a plain model with the values of the quantized base of ``model``, which stays as it is.

    Adapters are left out. Norms, biases and whatever else is not quantized have the checkpoint's own values, even where ``model`` computes
    with rounded ones.

    Args:
        model: on the int4 grid or on NF4, plain or with a peft adapter.
        dtype: of the result. By default the shortest in which the values are exact: float32 for the int4 grid (quantized again, they come
            out as the same codes and scales), for NF4 the one that its values are made in.
    """
    from accelerate import init_empty_weights

    base = cast("PreTrainedModel", causal_lm(model))
    dtype = dtype or _exact_dtype(base)
    config = copy.deepcopy(base.config)
    config.dtype = dtype
    with init_empty_weights(include_buffers=False):
        plain = type(base)(config)
    plain.tie_weights()
    unrounded: dict[str, Tensor] = getattr(base, UNROUNDED, {})
    for name, _ in list(plain.named_parameters()):
        path, _, leaf = name.rpartition(".")
        target, source = plain.get_submodule(path), _without_adapters(base, path)
        value = unrounded[name].to(dtype) if name in unrounded else _value(source, leaf, dtype)
        value = value.t() if leaf == "weight" and isinstance(target, Conv1D) and not isinstance(source, Conv1D) else value
        setattr(target, leaf, nn.Parameter(value.contiguous(), requires_grad=False))
    for name, _ in list(plain.named_buffers()):
        path, _, leaf = name.rpartition(".")
        setattr(plain.get_submodule(path), leaf, getattr(_without_adapters(base, path), leaf).clone())
    plain.tie_weights()
    if base.can_generate():
        plain.generation_config = copy.deepcopy(base.generation_config)
    plain.name_or_path = base.name_or_path
    return plain.eval()


def count_parameters(model: nn.Module) -> int:
    """Return how many parameters ``model`` has: weights in 4 bits count each, not by the bytes they are packed in, and tied ones once."""
    packed, unpacked = {}, {}
    for module in model.modules():
        if isinstance(module, GridEmbedding):
            packed[id(module.weight)], unpacked[id(module.weight)] = module.weight.numel(), module.num_embeddings * module.embedding_dim
        elif isinstance(module, GridLinear) or is_nf4(module):
            layer = cast(nn.Linear, module)
            packed[id(layer.weight)], unpacked[id(layer.weight)] = layer.weight.numel(), layer.in_features * layer.out_features
    return sum(parameter.numel() for parameter in model.parameters()) - sum(packed.values()) + sum(unpacked.values())


def _exact_dtype(base: nn.Module) -> torch.dtype:
    values: list[Any] = [module for module in base.modules() if is_nf4(module)]
    return nf4_dtype(values[0]) if values else torch.float32


def _value(module: nn.Module, leaf: str, dtype: torch.dtype) -> Tensor:
    if leaf == "weight" and isinstance(module, GridLinear | GridEmbedding):
        return module.dequantize(dtype)
    if leaf == "weight" and is_nf4(module):
        return dequantize_nf4(cast(Any, module)).to(dtype)
    return cast(Tensor, getattr(module, leaf)).detach().to(dtype, copy=True)


def _without_adapters(base: nn.Module, path: str) -> nn.Module:
    """The module of the base at ``path``, past the wrappers that peft put around it or around those above it."""
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    module = base
    for part in ["", *path.split(".")]:
        module = getattr(module, part) if part else module
        while isinstance(module, BaseTunerLayer | AuxiliaryTrainingWrapper):
            module = module.get_base_layer() if isinstance(module, BaseTunerLayer) else module.original_module
    return module
