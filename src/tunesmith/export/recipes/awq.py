"""AWQ: inputs that are large get finer weights, at the cost of the others (Lin et al. 2023, "AWQ: Activation-aware Weight Quantization",
https://arxiv.org/abs/2306.00978).

Legend: O outputs, I inputs. What a layer takes in is divided by a scale for every input, its weights are multiplied by it, and what made
the input (a norm, or a linear layer that only such an input lies behind) is divided: in floating point nothing changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tunesmith.errors import ModelError
from tunesmith.export.recipes.blocks import BlockFormat
from tunesmith.export.recipes.calibration import Activations
from tunesmith.export.recipes.gptq import quantization_loss
from tunesmith.export.recipes.layerwise import LayerInputs
from tunesmith.export.recipes.rounding import round_to_nearest
from tunesmith.models.structure import attention_of, decoder_blocks, feed_forward_of

#: Exponents that are tried: 0 is no scale at all, and the error of round-to-nearest.
_EXPONENTS = tuple(number / 20 for number in range(20))
#: Outputs that stand for all of a layer in the search: a scale is the same for every output.
_SAMPLED_OUTPUTS = 256
_SMALLEST = 1e-4


def scale_for_activations(model: nn.Module, activations: Activations, block_format: BlockFormat) -> None:
    """Rescale the model in place, so that rounding its weights loses less; its function in floating point stays what it was.

    Args:
        model: in float32.
        activations: of all layers in its blocks.
        block_format: that it will be rounded to.

    Raises:
        ModelError: for a model whose norms and layers are not put together like Llama's.
    """
    parameters = dict(model.named_parameters())
    for name, value in scaled_parameters(model, activations, block_format).items():
        parameters[name].data = value


@torch.no_grad()
def scaled_parameters(model: nn.Module, activations: Activations, block_format: BlockFormat) -> dict[str, Tensor]:
    """Return the new values of the parameters that :func:`scale_for_activations` changes, by name.

    The scale of an input is ``mean(|x|)^a``, brought to where the largest and the smallest are each other's reciprocal. For each input
    that layers share, ``a`` is the exponent with the least squared error of their outputs, ``tr((W - Q) X^T X (W - Q)^T)``.
    """
    values = _Values(dict(model.named_parameters()))
    for name, block in decoder_blocks(model):
        for place in _places(name, block):
            inputs = activations.of(place.takers[0])
            scale = _best_scale([values[f"{taker}.weight"] for taker in place.takers], inputs, block_format, place)
            for taker in place.takers:
                values[f"{taker}.weight"] = values[f"{taker}.weight"] * place.spread(scale)
            place.divide(values, scale)
    return values.changed


class _Values:
    """Parameters as they are, with those that were changed over them."""

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        self._parameters, self.changed = parameters, dict[str, Tensor]()

    def __getitem__(self, name: str) -> Tensor:
        return self.changed[name] if name in self.changed else self._parameters[name].detach()

    def __setitem__(self, name: str, value: Tensor) -> None:
        self.changed[name] = value

    def __contains__(self, name: str) -> bool:
        return name in self._parameters


@dataclass(frozen=True)
class _Place:
    """Where a scale can be moved from what gives an input into the layers that take it.

    Attributes:
        takers: names of layers that are fed the same.
        divide: takes the scale out of what gives the input.
        heads: of an attention with fewer key-value heads: (key-value heads, heads for each); a scale is that of the former.
    """

    takers: tuple[str, ...]
    divide: Callable[[_Values, Tensor], None]
    heads: tuple[int, int] = (1, 1)

    def collected(self, means: Tensor) -> Tensor:
        """One value for every scale: ``(I,)`` -> ``(I / heads for each,)``."""
        return means.view(*self.heads, -1).mean(dim=1).flatten()

    def spread(self, scale: Tensor) -> Tensor:
        """One scale for every input."""
        return scale.view(self.heads[0], 1, -1).expand(*self.heads, -1).flatten()


def _best_scale(weights: list[Tensor], inputs: LayerInputs, block_format: BlockFormat, place: _Place) -> Tensor:
    sampled = [weight[:: -(-len(weight) // _SAMPLED_OUTPUTS)] for weight in weights]
    means = place.collected(inputs.mean_abs).clamp(min=_SMALLEST)
    best, least = torch.ones_like(means), float("inf")
    for exponent in _EXPONENTS:
        scale = means.pow(exponent)
        scale = scale / (scale.max() * scale.min()).sqrt()
        wide = place.spread(scale)
        loss = sum(quantization_loss(one, round_to_nearest(one * wide, block_format).values() / wide, inputs.gram) for one in sampled)
        if loss < least:
            best, least = scale, loss
    return best


def _places(name: str, block: Any) -> Iterator[_Place]:
    """Yield the places of one decoder block, in the order of what is computed.

    Raises:
        ModelError: for a block that isn't put together like Llama's.
    """
    (attention_name, attention), (mlp_name, mlp) = attention_of(block), feed_forward_of(block)
    of_attention, of_mlp = dict(attention.named_children()), dict(mlp.named_children())
    before_mlp = "pre_feedforward_layernorm" if hasattr(block, "pre_feedforward_layernorm") else "post_attention_layernorm"
    first = _present(of_attention, ("q_proj", "k_proj", "v_proj"), ("qkv_proj",))
    second = _present(of_mlp, ("gate_proj", "up_proj"), ("gate_up_proj",))
    if not (first and second and hasattr(block, "input_layernorm") and hasattr(block, before_mlp) and "down_proj" in of_mlp):
        parts = ", ".join([*of_attention, *of_mlp])
        raise ModelError(f"the recipe awq doesn't know blocks like {type(block).__name__} ({parts})", fix="Take another recipe, as gptq")
    width = block.get_submodule(mlp_name).down_proj.in_features
    attention_name, mlp_name = f"{name}.{attention_name}", f"{name}.{mlp_name}"
    yield _Place(tuple(f"{attention_name}.{one}" for one in first), _from_norm(f"{name}.input_layernorm", block.input_layernorm))
    if heads := _heads(of_attention, attention):
        yield _Place((f"{attention_name}.o_proj",), _from_rows(f"{attention_name}.v_proj", slice(None)), heads)
    yield _Place(tuple(f"{mlp_name}.{one}" for one in second), _from_norm(f"{name}.{before_mlp}", getattr(block, before_mlp)))
    up = (f"{mlp_name}.up_proj", slice(None)) if len(second) == 2 else (f"{mlp_name}.gate_up_proj", slice(width, None))
    yield _Place((f"{mlp_name}.down_proj",), _from_rows(*up))


def _present(children: Mapping[str, nn.Module], *choices: tuple[str, ...]) -> tuple[str, ...]:
    """Return the first choice whose layers are all there."""
    return next((names for names in choices if all(isinstance(children.get(name), nn.Linear) for name in names)), ())


def _heads(children: Mapping[str, nn.Module], attention: Any) -> tuple[int, int] | None:
    """Key-value heads and heads for each, where nothing but the attention's mean stands between ``v_proj`` and ``o_proj``."""
    if not {"v_proj", "o_proj"} <= children.keys() <= {"q_proj", "k_proj", "v_proj", "o_proj", "q_norm", "k_norm"}:
        return None
    outputs, inputs, head_size = attention.v_proj.out_features, attention.o_proj.in_features, getattr(attention, "head_dim", 0)
    if not head_size or outputs % head_size or inputs % outputs:
        return None
    return outputs // head_size, inputs // outputs


def _from_norm(name: str, norm: nn.Module) -> Callable[[_Values, Tensor], None]:
    """The norm's weights are divided; those of Gemma's lie one below what they multiply by.

    Raises:
        ModelError: for a norm that adds something.
    """
    weight = getattr(norm, "weight", None)
    if not isinstance(weight, nn.Parameter) or getattr(norm, "bias", None) is not None:
        raise ModelError(f"the recipe awq doesn't know norms like {type(norm).__name__} ({name})", fix="Take another recipe, as gptq")
    with torch.no_grad():
        ones = norm(torch.ones(1, len(weight), dtype=weight.dtype))[0]
    offset = 0.0 if (ones - weight).abs().max() < (ones - weight - 1).abs().max() else 1.0

    def divide(values: _Values, scale: Tensor) -> None:
        values[f"{name}.weight"] = (values[f"{name}.weight"] + offset) / scale - offset

    return divide


def _from_rows(name: str, rows: slice) -> Callable[[_Values, Tensor], None]:
    """Some outputs of a linear layer are divided."""

    def divide(values: _Values, scale: Tensor) -> None:
        for kind, divisor in (("weight", scale[:, None]), ("bias", scale)):
            if f"{name}.{kind}" in values:
                value = values[f"{name}.{kind}"].clone()
                value[rows] /= divisor
                values[f"{name}.{kind}"] = value

    return divide
