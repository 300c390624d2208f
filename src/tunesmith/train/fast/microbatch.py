"""An effective batch in pieces of like length."""

from __future__ import annotations

from collections.abc import Sequence

#: What one more forward and backward pass costs besides its tokens, expressed in tokens. More than its operations alone (30 or so): a
#: packed batch holds hardly any padding anyway, and every pass computes the shared beginning of its rows again.
PASS_OVERHEAD_TOKENS = 256


def micro_batches(lengths: Sequence[int], *, max_tokens: int, overhead_tokens: int = PASS_OVERHEAD_TOKENS) -> list[list[int]]:
    """Split an effective batch into micro-batches of like length.

    Rows of like length come together, so that nearly nothing is padding, and no micro-batch is too small to be worth a pass of its own.

    Args:
        lengths: tokens of each row of one effective batch.
        max_tokens: padded tokens that a micro-batch may have; a single longer row is a micro-batch of its own.
        overhead_tokens: price of another micro-batch.

    Returns: row numbers, the longest rows first (if memory doesn't suffice, it shows at once).
    """
    order = sorted(range(len(lengths)), key=lambda row: (-lengths[row], row))
    falling = [lengths[row] for row in order]
    return [order[start:end] for start, end in cut_by_length(falling, overhead_tokens=overhead_tokens, max_tokens=max_tokens)]


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
