"""The recipes at work: from a model and a format for every matrix to blocks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from tunesmith.export.recipes.awq import scaled_parameters
from tunesmith.export.recipes.blocks import BlockFormat, Blocks
from tunesmith.export.recipes.calibration import Activations
from tunesmith.export.recipes.gptq import gptq
from tunesmith.export.recipes.layerwise import LayerInputs, Layerwise, inputs_of
from tunesmith.export.recipes.rounding import round_to_nearest

if TYPE_CHECKING:
    Formats = Mapping[str, BlockFormat]
    #: weight and format to blocks
    RoundOne = Callable[[Tensor, BlockFormat], Blocks]


def round_each(model: nn.Module, formats: Formats, chosen: BlockFormat, rounded: RoundOne) -> dict[str, Blocks]:
    """Round every matrix by itself.

    Args:
        model: in float32.
        formats: by layer name.
        chosen: the recipe's own; matrices of another (those that keep 8 bits) are rounded to the nearest.
        rounded: how the others are.
    """
    found = {}
    for name, block_format in formats.items():
        found[name] = (rounded if block_format == chosen else round_to_nearest)(weight_of(model, name), block_format)
    return found


def compensated(model: nn.Module, formats: Formats, chosen: BlockFormat, activations: Activations) -> dict[str, Blocks]:
    """Round by GPTQ block by block, each on what comes out of the blocks before as they are once they have been rounded.

    An output layer that is the embedding too comes first, so that the blocks see the embedding that they will get; it is judged by what
    the float model gives it.
    """
    head = list(formats)[-1]
    embedding = _embedding(model)
    tied = embedding is not None and embedding is weight_of(model, head)
    found: dict[str, Blocks] = {}

    if tied:
        found |= _together(model, [head], formats, chosen, {head: activations.of(head)})
    with values_in(model, {f"{head}.weight": found[head].values()} if tied else {}):
        walk = Layerwise(model, activations.rows)
        for index, (block, _) in enumerate(walk.blocks):
            names = [name for name in formats if name.startswith(f"{block}.")]
            inputs, _ = walk.inputs(index, names)
            here = _together(model, names, formats, chosen, inputs)
            with values_in(model, {f"{name}.weight": blocks.values() for name, blocks in here.items()}):
                walk.states = walk.run(index, walk.states)
            found |= here
        if not tied:
            found |= _together(model, [head], formats, chosen, {head: inputs_of(walk.final(walk.states))})
    return {name: found[name] for name in formats}


def _together(
    model: nn.Module, names: Sequence[str], formats: Formats, chosen: BlockFormat, inputs: Mapping[str, LayerInputs]
) -> dict[str, Blocks]:
    """Round layers by GPTQ, those that are fed the same as one: what an input's error moves is the same for all outputs."""
    found, fed = {}, dict[int, list[str]]()
    for name in names:
        if formats[name] == chosen:
            fed.setdefault(id(inputs[name]), []).append(name)
        else:
            found[name] = round_to_nearest(weight_of(model, name), formats[name])
    for group in fed.values():
        weights = [weight_of(model, name).detach() for name in group]
        blocks, start = gptq(torch.cat(weights), chosen, inputs[group[0]].gram), 0
        for name, weight in zip(group, weights, strict=True):
            found[name] = blocks.rows(slice(start, start + len(weight)))
            start += len(weight)
    return found


@contextlib.contextmanager
def scaled(model: nn.Module, formats: Formats, chosen: BlockFormat, activations: Activations) -> Iterator[dict[str, Tensor]]:
    """Within it the model is rescaled by AWQ; what that changes beside the matrices in ``formats`` is given."""
    values = scaled_parameters(model, activations, chosen)
    with values_in(model, values):
        yield {name: value for name, value in values.items() if name.removesuffix(".weight") not in formats}


@contextlib.contextmanager
def values_in(model: nn.Module, values: Mapping[str, Tensor]) -> Iterator[None]:
    """Within it some parameters have other values; afterwards the model is what it was, to the bit.

    Args:
        values: by parameter name; where parameters are tied, either name.
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    kept = [(parameters[name], parameters[name].data) for name in values]
    try:
        for name, value in values.items():
            parameters[name].data = value.to(parameters[name].dtype)
        yield
    finally:
        for parameter, before in reversed(kept):
            parameter.data = before


def weight_of(model: nn.Module, name: str) -> nn.Parameter:
    """Return the weight of a layer."""
    weight = model.get_submodule(name).weight
    assert isinstance(weight, nn.Parameter)
    return weight


def _embedding(model: nn.Module) -> object:
    embed = getattr(model, "get_input_embeddings", None)
    return getattr(embed(), "weight", None) if callable(embed) else None
