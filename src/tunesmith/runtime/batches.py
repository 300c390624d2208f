"""Which prompts are answered together: those of like length, as many as a budget of tokens allows; and which rows can't be answered."""

from __future__ import annotations

from collections.abc import Sequence

from tunesmith.errors import DataError, UsageError

#: Tokens of prompts and answers alive at once. Their keys and values take 23 KB a token in the sample model and 128 KB in an 8B Llama.
TOKEN_BUDGET = 8192
#: More rows than this make nothing faster on two cores.
MOST_ROWS = 64


def plan_batches(lengths: Sequence[int], *, max_new_tokens: int, batch_size: int | None = None) -> list[list[int]]:
    """Group prompts into batches, longest first, so that padding is small and memory is at its highest at the start.

    Args:
        lengths: tokens of each prompt.
        max_new_tokens: tokens of each answer at most.
        batch_size: rows of a batch; by default at most 64 and, beyond one, no more than fit into `TOKEN_BUDGET`.

    Returns: batches of positions in ``lengths``.
    Raises:
        UsageError: when the batch size is below 1.
    """
    if batch_size is not None and batch_size < 1:
        raise UsageError(f"batch_size is {batch_size}, but a batch has at least one prompt")
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    batches: list[list[int]] = []
    while order:
        rows = batch_size or max(1, min(MOST_ROWS, TOKEN_BUDGET // (lengths[order[0]] + max_new_tokens)))
        batches.append(order[:rows])
        order = order[rows:]
    return batches


def check_rows(rows: Sequence[Sequence[int]], context: int | None) -> None:
    """Refuse rows of token ids that a model can't read.

    Raises:
        DataError: for a row that is empty or longer than ``context``.
    """
    for number, row in enumerate(rows, 1):
        if not row:
            raise DataError(f"row {number} of the token ids is empty")
        if context is not None and len(row) > context:
            raise DataError(f"row {number} has {len(row)} tokens, but the model's context is {context} tokens", fix="Shorten it")
