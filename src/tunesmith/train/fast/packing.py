"""A batch without padding, without the beginning that all its rows share, and without tokens that no loss depends on.

B rows of the batch, T longest row, N tokens that are computed, M of them predict a supervised one.

A causal model gives a token the same hidden state in every row that begins the same way up to it, so the tokens that all rows share
(a system prompt, the opening of the chat template) are computed once for the whole batch; their gradients are the sums over the rows.
What follows the last supervised position of a row changes no loss, and the last target is never an input. What is left is one sequence

    [ prefix | rows of group 1 | rows of group 2 | ... | tail ]

in which the rows of a group are padded to its longest, and the tail rounds N up: products of an odd number of rows are up to 4% slower.
Linear layers and norms see N tokens; only attention has to know the layout.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from tunesmith.data.tokenize import IGNORE_INDEX
from tunesmith.train.fast.microbatch import cut_by_length

#: What a further group costs in every attention layer, expressed in padded tokens (measured with SmolLM2-135M on two cores).
GROUP_OVERHEAD_TOKENS = 12
#: N is a multiple of it.
TOKEN_MULTIPLE = 8


@dataclass(frozen=True)
class RowGroup:
    """``num_rows`` rows of ``length`` tokens each, one after the other from token ``start`` on."""

    start: int
    num_rows: int
    length: int

    @property
    def stop(self) -> int:
        """The first token after the group."""
        return self.start + self.num_rows * self.length


@dataclass(frozen=True)
class TokenLayout:
    """Where the tokens of a packed batch belong.

    Attributes:
        prefix_length: tokens that every row starts with; they come first.
        groups: the rows, each without the prefix.
        predictors: ``(M,)`` indices of the tokens that predict a supervised one; a token of the prefix appears once for every row.
    """

    prefix_length: int
    groups: tuple[RowGroup, ...]
    predictors: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long), compare=False)

    @property
    def num_placed(self) -> int:
        """Tokens before the tail."""
        return self.groups[-1].stop

    @property
    def num_tokens(self) -> int:
        """Tokens that are computed, N."""
        return -(-self.num_placed // TOKEN_MULTIPLE) * TOKEN_MULTIPLE


@dataclass(frozen=True)
class PackedBatch:
    """What to compute and where its loss is.

    Attributes:
        input_ids: ``(1, N)``.
        position_ids: ``(1, N)``, the position of each token in its own row.
        layout: which token belongs where, and which predict.
        targets: ``(M,)`` token ids that these should predict.
        weights: ``(M,)``, the weight of the row that each target is of; None where rows have none.
    """

    input_ids: Tensor
    position_ids: Tensor
    layout: TokenLayout
    targets: Tensor
    weights: Tensor | None = None


def pack(
    input_ids: Tensor,
    labels: Tensor,
    attention_mask: Tensor | None = None,
    *,
    row_weights: Tensor | None = None,
    share_prefix: bool = True,
    max_row_tokens: int | None = None,
) -> PackedBatch | None:
    """Pack a batch padded on the right.

    Args:
        input_ids: ``(B, T)``.
        labels: ``(B, T)``, not shifted, -100 where nothing is learnt.
        attention_mask: ``(B, T)`` or None; padding must be on the right.
        row_weights: ``(B,)``, how much the losses of each row count.
        share_prefix: compute tokens that all rows begin with once. Not right where dropout makes rows differ.
        max_row_tokens: longest row that may be packed (models that look back through a window).

    Returns: None when nothing is supervised, when a row is too long, or when a mask has holes or padding on the left.
    """
    supervised = labels[:, 1:] != IGNORE_INDEX  # position t predicts t + 1
    if attention_mask is not None and bool((attention_mask[:, :-1] < attention_mask[:, 1:]).any()):
        return None
    rows = supervised.any(dim=1).nonzero().flatten()
    if len(rows) == 0:
        return None
    input_ids, labels, supervised = input_ids[rows], labels[rows], supervised[rows]
    columns = torch.arange(supervised.shape[1], device=labels.device)
    lengths = torch.where(supervised, columns + 1, 0).amax(dim=1)  # inputs up to the last predictor
    if max_row_tokens is not None and int(lengths.max()) > max_row_tokens:
        return None
    prefix = _shared_length(input_ids, lengths) if share_prefix and len(rows) > 1 else 0
    order, layout = _lay_out((lengths - prefix).tolist(), prefix)
    packed = _gather(input_ids[order], labels[order], supervised[order], layout)
    if row_weights is None:
        return packed
    return replace(packed, weights=row_weights[rows][order].repeat_interleave(supervised[order].sum(dim=1)))


def _shared_length(input_ids: Tensor, lengths: Tensor) -> int:
    """How many leading tokens all rows share; at least one token of every row is left to be its own."""
    most = int(lengths.min()) - 1
    same = (input_ids[:, :most] == input_ids[0, :most]).all(dim=0)
    return int(same.long().cumprod(dim=0).sum())


def _lay_out(lengths: list[int], prefix: int) -> tuple[list[int], TokenLayout]:
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    sorted_lengths = [lengths[i] for i in order]
    groups, start = [], prefix
    for first, end in cut_by_length(sorted_lengths, overhead_tokens=GROUP_OVERHEAD_TOKENS):
        groups.append(RowGroup(start, end - first, sorted_lengths[first]))
        start = groups[-1].stop
    return order, TokenLayout(prefix, tuple(groups))


def _gather(input_ids: Tensor, labels: Tensor, supervised: Tensor, layout: TokenLayout) -> PackedBatch:
    """Bring the rows, already in the order of the groups, into one sequence."""
    device, prefix = input_ids.device, layout.prefix_length
    tokens, positions, predictors, targets = [input_ids[0, :prefix]], [torch.arange(prefix, device=device)], [], []
    first = 0
    for group in layout.groups:
        rows, columns = slice(first, first + group.num_rows), slice(prefix, prefix + group.length)
        first += group.num_rows
        tokens.append(input_ids[rows, columns].flatten())
        positions.append(torch.arange(prefix, prefix + group.length, device=device).repeat(group.num_rows))
        row, column = supervised[rows].nonzero(as_tuple=True)
        own = group.start + row * group.length + (column - prefix)
        predictors.append(torch.where(column < prefix, column, own))
        targets.append(labels[rows, 1:][row, column])
    tail = torch.zeros(layout.num_tokens - layout.num_placed, dtype=torch.long, device=device)
    tokens.append(tail)
    positions.append(tail)
    return PackedBatch(
        input_ids=torch.cat(tokens)[None],
        position_ids=torch.cat(positions)[None],
        layout=replace(layout, predictors=torch.cat(predictors)),
        targets=torch.cat(targets),
    )
