"""An effective batch in pieces of like length, and padding that costs nothing.

B batch, T tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

IGNORE = -100
#: What one more forward and backward pass costs besides its tokens, expressed in tokens. More than its operations alone (30 or so): a
#: packed batch holds hardly any padding anyway, and every pass computes the shared beginning of its rows again.
PASS_OVERHEAD_TOKENS = 256

Example = Mapping[str, Sequence[int]]


def micro_batches(examples: Sequence[Example], *, max_tokens: int, overhead_tokens: int = PASS_OVERHEAD_TOKENS) -> list[list[int]]:
    """Split an effective batch into micro-batches of like length.

    Rows of like length come together, so that nearly nothing is padding, and no micro-batch is too small to be worth a pass of its own.

    Args:
        examples: rows with ``input_ids``; one effective batch.
        max_tokens: padded tokens that a micro-batch may have; a single longer row is a micro-batch of its own.
        overhead_tokens: price of another micro-batch.

    Returns: indices into ``examples``, the longest rows first (if memory doesn't suffice, it shows at once).
    """
    order = sorted(range(len(examples)), key=lambda i: (-len(examples[i]["input_ids"]), i))
    lengths = [len(examples[i]["input_ids"]) for i in order]
    return [order[start:end] for start, end in cut_by_length(lengths, overhead_tokens=overhead_tokens, max_tokens=max_tokens)]


def cut_by_length(lengths: Sequence[int], *, overhead_tokens: int, max_tokens: int | None = None) -> list[tuple[int, int]]:
    """Cut rows sorted by falling length where the sum over pieces of ``longest * rows + overhead_tokens`` is least.

    Dynamic programming over the cuts: ``cost[end] = min over start of cost[start] + lengths[start] * (end - start) + overhead_tokens``.

    Args:
        lengths: tokens of each row, the longest first.
        overhead_tokens: price of another piece.
        max_tokens: padded tokens that a piece of more than one row may have.

    Returns: ``(start, end)`` of every piece, in order.
    """
    cost: list[float] = [0.0] + [float("inf")] * len(lengths)  # cost[k]: cheapest way to cover the k longest rows
    cut = [0] * (len(lengths) + 1)
    for start, longest in enumerate(lengths):
        most_rows = len(lengths) if max_tokens is None else max(1, max_tokens // max(1, longest))
        for end in range(start + 1, min(len(lengths), start + most_rows) + 1):
            price = cost[start] + longest * (end - start) + overhead_tokens
            if price < cost[end]:
                cost[end], cut[end] = price, start
    pieces: list[tuple[int, int]] = []
    end = len(lengths)
    while end:
        pieces.append((cut[end], end))
        end = cut[end]
    return pieces[::-1]


def pad(examples: Sequence[Example], pad_token_id: int, *, always_mask: bool = False) -> tuple[Tensor, Tensor, Tensor | None]:
    """Pad rows on the right to the longest of them.

    No mask is needed for right padding under causal attention: a real token only looks back, where there is no padding, and positions
    count from the left all the same; what is computed at padded positions is read by nobody, because their labels are ignored. This holds
    for sliding windows too (they look back as well), and for any layer that mixes tokens causally. It does not hold for prefix and
    bidirectional attention, nor for mixture-of-experts routers that balance load over all tokens: pass ``always_mask=True`` there.

    Args:
        examples: rows with ``input_ids`` and, unshifted, ``labels`` (-100 where nothing is learnt).
        pad_token_id: what fills the rest.
        always_mask: return a mask even where right padding needs none.

    Returns: ``input_ids`` ``(B, T)``, ``labels`` ``(B, T)``, and ``attention_mask`` ``(B, T)`` or None.
    """
    length = max(len(example["input_ids"]) for example in examples)
    input_ids = torch.full((len(examples), length), pad_token_id, dtype=torch.long)
    labels = torch.full((len(examples), length), IGNORE, dtype=torch.long)
    attention_mask = torch.zeros((len(examples), length), dtype=torch.long)
    for row, example in enumerate(examples):
        size = len(example["input_ids"])
        input_ids[row, :size] = torch.as_tensor(example["input_ids"])
        labels[row, :size] = torch.as_tensor(example["labels"])
        attention_mask[row, :size] = 1
    padded = bool((attention_mask == 0).any())
    return input_ids, labels, attention_mask if padded and always_mask else None
