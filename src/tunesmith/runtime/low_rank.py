"""LoRA layers that cost little when answering.

In half precision an adapter stays beside its base: the base's weights remain pages of their file, shared and not copied, and loading takes
no longer. What peft does at each call (casts to float32, lookups, DoRA's norm of the whole weight) is done once, with A and B in the
weights' own precision. Measured against float32 with random adapters on the sample model this is as exact as merging as long as the adapter
is small (KL divergence 0.002 for both: the rounding of activations outweighs that of weights). A step takes some 10% longer than merged;
with peft's own layers it is 25%, with its DoRA layers five times as long.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Legend: I inputs, O outputs, R rank, N tokens.


class LowRankLinear(nn.Module):
    """``g * (W x + s B A x) + b``, with ``g = m / |W + s B A|`` by rows for DoRA (Liu et al. 2024, equation 5) and 1 for LoRA.

    Computed as ``y + (g - 1) * (y - b) + (g s B) A x`` with ``y = W x + b``: rounding ``g - 1`` instead of ``g`` keeps what is small exact.

    Args:
        base: the frozen layer, ``nn.Linear`` or GPT-2's ``Conv1D``.
        lora_a: ``(R, I)``.
        lora_b: ``(O, R)``, already times ``s``.
        gain: ``(O,)`` the factor ``g``; None for LoRA.
    """

    def __init__(self, base: nn.Module, lora_a: Tensor, lora_b: Tensor, gain: Tensor | None = None) -> None:
        super().__init__()
        dtype = next(base.parameters()).dtype
        self.base_layer: Any = base
        scaled = lora_b.float() if gain is None else gain.float()[:, None] * lora_b.float()
        self.lora_a = nn.Parameter(lora_a.to(dtype), requires_grad=False)
        self.lora_b = nn.Parameter(scaled.T.contiguous().to(dtype), requires_grad=False)  # (R, O)
        self.gain_beyond_one = None if gain is None else nn.Parameter((gain.float() - 1).to(dtype), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(…, O)`` for ``x`` of shape ``(…, I)``."""
        y: Tensor = self.base_layer(x)
        if self.gain_beyond_one is not None:
            bias = self.base_layer.bias
            y = torch.addcmul(y, y if bias is None else y - bias, self.gain_beyond_one)
        low = nn.functional.linear(x, self.lora_a)
        return torch.addmm(y.flatten(0, -2), low.flatten(0, -2), self.lora_b).view_as(y)


def lighten_lora(model: PreTrainedModel) -> int:
    """Replace peft's LoRA and DoRA layers on plain linear layers in ``model``, in place; other layers stay peft's.

    Returns: how many were replaced. The model answers only, from now on: no training, switching or saving of the adapter.
    """
    from peft.tuners.lora import Linear

    layers = {name: module for name, module in model.named_modules() if type(module) is Linear}
    light = {name: replacement for name, layer in layers.items() if (replacement := _light(layer)) is not None}
    for name, replacement in light.items():
        model.set_submodule(name, replacement)
    return len(light)


@torch.no_grad()
def _light(layer: Any) -> LowRankLinear | None:
    """Return what does the same as one of peft's layers, None for one with something special."""
    from transformers.pytorch_utils import Conv1D

    base, active = layer.get_base_layer(), [name for name in layer.active_adapters if name in layer.lora_A]
    if type(base) not in (nn.Linear, Conv1D) or len(active) != 1 or layer.disable_adapters or layer.merged:
        return None
    name = active[0]
    is_dora = name in layer.lora_magnitude_vector
    if layer.lora_B[name].bias is not None or (name in layer.lora_variant) != is_dora:
        return None
    lora_a, lora_b = layer.lora_A[name].weight.float(), layer.scaling[name] * layer.lora_B[name].weight.float()
    if not is_dora:
        return LowRankLinear(base, lora_a, lora_b)
    weight = base.weight.float() if type(base) is nn.Linear else base.weight.float().T  # (O, I)
    norm = torch.linalg.norm(weight + lora_b @ lora_a, dim=1)
    return LowRankLinear(base, lora_a, lora_b, layer.lora_magnitude_vector[name].weight.float() / norm)
