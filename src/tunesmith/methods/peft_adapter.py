"""Putting a peft adapter on a model and writing it, the same way for every method of the LoRA family."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from torch import nn

from tunesmith.methods.master_weights import keep_master_weights

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel
    from transformers import PreTrainedModel

#: Attribute of the trained module that holds ``A`` and ``B`` as they were before the first step, by the name they are saved under.
_BEFORE_TRAINING = "adapter_before_training"


def attach(model: PreTrainedModel, config: LoraConfig) -> PeftModel:
    """Return ``model`` (changed in place) with trainable float32 adapters after ``config``, everything else frozen."""
    from peft import get_peft_model, get_peft_model_state_dict

    from tunesmith.methods.lora import moves_base_weights

    named, training = list(config.modules_to_save or []), model.training
    moves = moves_base_weights(config.init_lora_weights)
    with warnings.catch_warnings(), _float32_base(model) if moves else nullcontext():
        # peft sets fan_in_fan_out itself where a model mixes Conv1D and Linear, and warns that it does.
        warnings.filterwarnings("ignore", message="fan_in_fan_out is set to")
        # An adapter on one of two tied embeddings is merged correctly here: merge_adapter unties them first.
        warnings.filterwarnings("ignore", message="Model has `tie_word_embeddings=True`")
        peft_model = get_peft_model(model, config).train(training)
    # peft takes the tied output embedding off the list, and without its name it would not tie GPT-2's when the adapter is loaded again.
    config.modules_to_save = named or None
    keep_master_weights(peft_model)
    _measure_magnitudes(peft_model)
    if moves:
        before = get_peft_model_state_dict(peft_model, save_embedding_layers=False)
        setattr(peft_model, _BEFORE_TRAINING, {name: tensor.detach().clone() for name, tensor in before.items() if ".lora_" in name})
    return peft_model


@contextmanager
def _float32_base(model: nn.Module) -> Iterator[None]:
    """Hold the base in float32 for a while: what PiSSA and OLoRA split off is not rounded then, only what stays in the base."""
    halves = {parameter: parameter.dtype for parameter in model.parameters() if parameter.dtype in (torch.float16, torch.bfloat16)}
    for parameter in halves:
        parameter.data = parameter.data.float()
    yield
    for parameter, dtype in halves.items():
        parameter.data = parameter.data.to(dtype)


def _measure_magnitudes(peft_model: PeftModel) -> None:
    """Measure DoRA's magnitudes again, in float32: rounded to the base's dtype by peft, they are not the identity at the start."""
    from peft.tuners.lora import LoraLayer

    for layer in peft_model.modules():
        if not isinstance(layer, LoraLayer):
            continue
        for adapter, magnitude in layer.lora_magnitude_vector.items():
            if adapter in layer.lora_A:
                lora_a, lora_b = layer.lora_A[adapter].weight, layer.lora_B[adapter].weight
                magnitude.update_layer(base_layer=layer.get_base_layer(), lora_A=lora_a, lora_B=lora_b, scaling=layer.scaling[adapter])


def save_adapter(model: nn.Module, folder: Path) -> None:
    """Write the adapter of a :class:`peft.PeftModel` into ``folder`` in peft's format, weights as safetensors.

    An adapter that took something out of the frozen weights at its start (PiSSA, OLoRA) is written as the plain one that does the same on
    the untouched base: with ``A0, B0`` the matrices before training, ``W - s B0 A0 + s B A = W + s [B, -B0] [A; A0]``, of twice the rank.
    The two differ by the rounding of ``W - s B0 A0`` to the base's dtype.
    """
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    peft_model = cast("PeftModel", model)
    tensors = get_peft_model_state_dict(peft_model, save_embedding_layers=False)
    config = _saved_config(peft_model)
    before = getattr(peft_model, _BEFORE_TRAINING, None)
    if before is not None:
        tensors = {name: _with_start(name, tensor, before.get(name)) for name, tensor in tensors.items()}
        config.lora_alpha *= math.sqrt(2) if config.use_rslora else 2
        config.r *= 2
        config.init_lora_weights = True
    folder.mkdir(parents=True, exist_ok=True)
    # Tied copies share memory, which safetensors refuses: every name gets its own tensor.
    tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})
    config.save_pretrained(str(folder))


def _saved_config(peft_model: PeftModel) -> LoraConfig:
    """A copy as peft writes it: for inference, and naming the base."""
    from dataclasses import replace

    config = cast("LoraConfig", peft_model.peft_config[peft_model.active_adapter])
    base = config.base_model_name_or_path or peft_model.get_base_model().name_or_path
    return cast("LoraConfig", replace(config, inference_mode=True, base_model_name_or_path=base))


def _with_start(name: str, tensor: torch.Tensor, before: torch.Tensor | None) -> torch.Tensor:
    """``[A; A0]`` of shape ``(2R, in)``, or ``[B, -B0]`` of shape ``(out, 2R)``; anything else unchanged."""
    if before is None:
        return tensor
    start = before.to(tensor)
    return torch.cat([tensor, start], dim=0) if ".lora_A." in name else torch.cat([tensor, -start], dim=1)
