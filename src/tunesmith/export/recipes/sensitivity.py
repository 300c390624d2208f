"""Which part of a decoder loses most in few bits: each is rounded alone, and the rest computed from where it begins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from tunesmith.export.recipes.blocks import BlockFormat, Blocks
from tunesmith.export.recipes.layerwise import Layerwise, Rows
from tunesmith.export.recipes.methods import weight_of
from tunesmith.export.recipes.recipe import head_name, quantized_values
from tunesmith.export.recipes.rounding import round_to_nearest
from tunesmith.models.structure import attention_of, feed_forward_of, linear_names, output_embedding

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

#: Rows, their tokens, and positions of these that are looked at: each part costs a pass of all tokens through all later blocks, and logits
#: at every position.
MAX_ROWS = 16
MAX_TOKENS = 512
MAX_POSITIONS = 128


@dataclass(frozen=True)
class PartCost:
    """What few bits cost in one part.

    Attributes:
        name: of the module: a block's attention or feed-forward, or the output layer (with an embedding tied to it).
        kl: mean divergence of the next token's distribution from the float model's, in nats a position.
        num_weights: that are rounded there.
    """

    name: str
    kl: float
    num_weights: int


def measure_sensitivity(model: nn.Module, rows: Rows, block_format: BlockFormat) -> list[PartCost]:
    """Return every part with what rounding it alone to the nearest costs, the costliest first.

    Args:
        model: in float32, evaluation mode; it is what it was afterwards.
        rows: token ids of prompts with answers; some are used, see :func:`few_rows`.
        block_format: of the part that is rounded.

    Raises:
        DataError: without any token.
        ModelError: for a model whose blocks aren't found.
    """
    walk = Layerwise(model, few_rows(rows))
    entering = [walk.states]
    for index in range(len(walk.blocks)):
        entering.append(walk.run(index, entering[-1]))
    judge = _Judge(model, walk, entering[-1])
    layers, found = list(linear_names(model)), list[PartCost]()
    for index, part in _parts(walk):
        inside = [name for name in layers if name.startswith(f"{part}.")]
        with quantized_values(model, _rounded(model, inside, block_format)):
            states = walk.run(index, entering[index])
        for later in range(index + 1, len(walk.blocks)):
            states = walk.run(later, states)
        found.append(PartCost(part, judge.kl(states), sum(weight_of(model, name).numel() for name in inside)))
    head = head_name(model)
    with quantized_values(model, _rounded(model, [head], block_format)):
        walk.restart()
        for index in range(len(walk.blocks)):
            walk.states = walk.run(index, walk.states)
        found.append(PartCost(head, judge.kl(walk.states), weight_of(model, head).numel()))
    return sorted(found, key=lambda part: -part.kl)


def few_rows(rows: Rows) -> Rows:
    """Return up to `MAX_ROWS` rows, spread evenly, of together at most `MAX_TOKENS` tokens; a single row that is longer is cut."""
    spread = [row for row in rows if len(row)]
    spread = spread[:: max(1, len(spread) // MAX_ROWS)][:MAX_ROWS]
    found: list[Sequence[int]] = [row[:MAX_TOKENS] for row in spread[:1]]
    for row in spread[1:]:
        if sum(map(len, found)) + len(row) <= MAX_TOKENS:
            found.append(row)
    return found


class _Judge:
    """Compares what comes out of the last block with what did in the float model."""

    def __init__(self, model: nn.Module, walk: Layerwise, states: list[Tensor]) -> None:
        self._head, self._walk = output_embedding(model), walk
        self._step = max(1, -(-walk.num_tokens // MAX_POSITIONS))
        self._float = self._log_probabilities(states)

    @torch.inference_mode()
    def kl(self, states: list[Tensor]) -> float:
        """Mean nats a position."""
        return float((self._float.exp() * (self._float - self._log_probabilities(states))).sum(dim=-1).mean())

    @torch.inference_mode()
    def _log_probabilities(self, states: list[Tensor]) -> Tensor:
        hidden = torch.cat(self._walk.final(states))[:: self._step]
        return torch.log_softmax(self._head(hidden).float(), dim=-1)


def _parts(walk: Layerwise) -> Iterator[tuple[int, str]]:
    for index, (name, block) in enumerate(walk.blocks):
        yield index, f"{name}.{attention_of(block)[0]}"
        yield index, f"{name}.{feed_forward_of(block)[0]}"


def _rounded(model: nn.Module, names: Iterable[str], block_format: BlockFormat) -> dict[str, Blocks]:
    return {name: round_to_nearest(weight_of(model, name), block_format) for name in names}
