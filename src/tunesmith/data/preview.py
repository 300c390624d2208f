"""Tokenized examples as people can read them, with what the loss is on told from what it isn't."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from tunesmith.data.tokenize import IGNORE_INDEX

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from tunesmith.data.prepare import Prepared

_DIM, _PLAIN = "\x1b[2m", "\x1b[0m"


def show_examples(prepared: Prepared, tokenizer: PreTrainedTokenizerBase, n: int, *, color: bool = False) -> str:
    """Return the first ``n`` examples exactly as the model will see them.

    Args:
        color: dim what nothing is learnt from by ANSI codes; otherwise it stands in [brackets].
    """
    shown = []
    for number in range(min(n, len(prepared.dataset))):
        row = prepared.dataset[number]
        learnt = sum(label != IGNORE_INDEX for label in row["labels"])
        parts = [_mark(text, masked, color) for masked, text in _stretches(row["input_ids"], row["labels"], tokenizer)]
        shown.append(f"Example {number + 1}: {row['length']} tokens, {learnt} of them learnt\n{''.join(parts)}")
    return "\n\n".join(shown)


def _stretches(ids: Sequence[int], labels: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> Iterator[tuple[bool, str]]:
    for masked, pairs in groupby(zip(ids, labels, strict=True), key=lambda pair: pair[1] == IGNORE_INDEX):
        yield masked, tokenizer.decode([token for token, _ in pairs], skip_special_tokens=False, clean_up_tokenization_spaces=False)


def _mark(text: str, masked: bool, color: bool) -> str:
    if not masked:
        return text
    return f"{_DIM}{text}{_PLAIN}" if color else f"[{text}]"
