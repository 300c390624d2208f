"""Trainable weights in float32 inside a model that computes in half precision.

An optimizer step is often smaller than half a unit of bfloat16 (2^-9 of the weight) and would be rounded away, so what is trained is kept
in float32 while the frozen base stays as it is. peft's LoRA layers convert on their own; whole modules that peft copies for training
(``modules_to_save``) don't, so the conversion is added around them here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from peft.utils.other import ModulesToSaveWrapper


def keep_master_weights(model: nn.Module) -> None:
    """Turn every trainable parameter into float32, and convert around the modules that peft trains whole.

    The conversion sits on peft's wrappers, which vanish when the adapter is merged or unloaded; the copies themselves stay plain modules.
    """
    from peft.utils.other import ModulesToSaveWrapper

    for parameter in model.parameters():
        if parameter.requires_grad and parameter.dtype != torch.float32:
            parameter.data = parameter.data.float()
    for module in model.modules():
        if isinstance(module, ModulesToSaveWrapper) and _dtype_of(module.original_module) != torch.float32:
            module.register_forward_pre_hook(_inputs_to_copy)
            module.register_forward_hook(_output_to_base)


def float32_model(model: nn.Module) -> nn.Module:
    """Return ``model`` with all its floating-point weights in float32, in place.

    The method of :class:`torch.nn.Module` is called, because transformers' own refuses a model read from a GGUF file: it takes it for a
    quantized one, though its weights are plain tensors by then.
    """
    return nn.Module.float(model)


def _inputs_to_copy(wrapper: ModulesToSaveWrapper, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Hidden states go in as float32; token ids, and everything when the adapter is switched off, as they are."""
    if wrapper.disable_adapters or not wrapper.active_adapters:
        return inputs
    dtype = _dtype_of(wrapper.modules_to_save[wrapper.active_adapters[0]])
    return tuple(value.to(dtype) if isinstance(value, torch.Tensor) and value.is_floating_point() else value for value in inputs)


def _output_to_base(wrapper: ModulesToSaveWrapper, _: tuple[Any, ...], output: Any) -> Any:
    return output.to(_dtype_of(wrapper.original_module)) if isinstance(output, torch.Tensor) else output


def _dtype_of(module: nn.Module) -> torch.dtype:
    return next(module.parameters()).dtype
