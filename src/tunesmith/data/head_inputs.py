"""Texts and words to token ids for a model that ends in a head: the same at training and wherever the model runs.

There is no template: the tokenizer adds what the model is used to (BERT's [CLS] and [SEP], a decoder's BOS, or nothing).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tunesmith.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: A word, or a sign that is neither word nor blank: how a text becomes words where nobody cut it.
_WORDS = re.compile(r"\w+|[^\w\s]")
#: Between two texts, where the tokenizer puts nothing there.
PAIR_SEPARATOR = "\n"


def encode_for_head(
    texts: Sequence[tuple[str, ...]], tokenizer: PreTrainedTokenizerBase, *, max_seq_len: int | None = None
) -> list[list[int]]:
    """Return the token ids of texts, or of pairs of texts as one sequence each.

    Args:
        texts: one text, or two, a row.
        tokenizer: the model's.
        max_seq_len: longer ones lose their end, special tokens stay; of a pair the longer text loses first.
    """
    if not texts:
        return []
    cut: dict[str, Any] = {} if max_seq_len is None else {"truncation": "longest_first", "max_length": max_seq_len}
    if len(texts[0]) == 1:
        return list(_call(tokenizer, [row[0] for row in texts], **cut)["input_ids"])
    if not _separates(tokenizer):
        return list(_call(tokenizer, [PAIR_SEPARATOR.join(row) for row in texts], **cut)["input_ids"])
    return list(_call(tokenizer, [row[0] for row in texts], [row[1] for row in texts], **cut)["input_ids"])


def split_words(text: str) -> list[tuple[int, int]]:
    """Return ``(start, end)`` of every word and sign of a text, in characters."""
    return [match.span() for match in _WORDS.finditer(text)]


def join_words(words: Sequence[str]) -> tuple[str, list[tuple[int, int]]]:
    """Return words as one text, a blank between two, and where each is in it."""
    places, end = [], 0
    for word in words:
        places.append((end, end + len(word)))
        end += len(word) + 1
    return " ".join(words), places


def encode_words(
    texts: Sequence[str],
    words: Sequence[Sequence[tuple[int, int]]],
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_seq_len: int | None = None,
) -> list[tuple[list[int], list[int | None]]]:
    """Return for every text its token ids and, for each of its words, the position of its first sub-word.

    A word has no position when it is cut off, empty, or part of a token that began with an earlier word.

    Args:
        texts: whole texts.
        words: ``(start, end)`` of the words of each, in order.

    Raises:
        ModelError: for a tokenizer that doesn't say where in the text its tokens are.
    """
    if not tokenizer.is_fast:
        raise ModelError(
            f"the tokenizer {type(tokenizer).__name__} doesn't say where in a text its tokens are, which token-classification needs",
            fix="Give a model with a tokenizer.json.",
        )
    cut: dict[str, Any] = {} if max_seq_len is None else {"truncation": True, "max_length": max_seq_len}
    encoded = _call(tokenizer, list(texts), return_offsets_mapping=True, **cut)
    rows = zip(encoded["input_ids"], encoded["offset_mapping"], words, strict=True)
    return [(ids, _first_tokens(offsets, places)) for ids, offsets, places in rows]


def _first_tokens(offsets: Sequence[tuple[int, int]], words: Sequence[tuple[int, int]]) -> list[int | None]:
    """For each word the first token that reaches into it and none before it."""
    found: list[int | None] = []
    token, taken = 0, -1
    for start, end in words:
        while token < len(offsets) and offsets[token][1] <= start:  # special tokens are (0, 0)
            token += 1
        reaches = token < len(offsets) and offsets[token][0] < end and start < end and token != taken
        found.append(token if reaches else None)
        taken = token if reaches else taken
    return found


def _separates(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer puts anything between the texts of a pair."""
    first, second = (tokenizer("a", add_special_tokens=False).input_ids for _ in range(2))
    return len(_call(tokenizer, ["a"], ["a"])["input_ids"][0]) > len(first) + len(second) + _num_around(tokenizer)


def _num_around(tokenizer: PreTrainedTokenizerBase) -> int:
    return int(tokenizer.num_special_tokens_to_add(pair=False))


def _call(tokenizer: PreTrainedTokenizerBase, *texts: list[str], **options: Any) -> Any:
    # verbose=False: a text longer than the model takes is our business, said once with its number
    return tokenizer(*texts, add_special_tokens=True, return_attention_mask=False, return_token_type_ids=False, verbose=False, **options)
