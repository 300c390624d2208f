"""Texts and words to token ids for a model that ends in a head: the same at training and wherever the model runs.

There is no template: the tokenizer adds what the model is used to (BERT's [CLS] and [SEP], a decoder's BOS, or nothing).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from tunesmith.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: A word, or a sign that is neither word nor blank: how a text becomes words where nobody cut it.
_WORDS = re.compile(r"\w+|[^\w\s]")
#: Between two texts, where the tokenizer puts nothing there.
PAIR_SEPARATOR = "\n"

SubWord = Literal["first", "last"]


def encode_for_head(
    texts: Sequence[tuple[str, ...]], tokenizer: PreTrainedTokenizerBase, *, max_seq_len: int | None = None
) -> list[list[int]]:
    """Return the token ids of texts, or of pairs of texts as one sequence each.

    Args:
        texts: one text, or two, a row.
        tokenizer: the model's.
        max_seq_len: longer ones lose their end, special tokens stay; of a pair the longer text loses first.
    """
    return list(_encode(texts, tokenizer, max_seq_len)["input_ids"]) if texts else []


def encode_pairs(
    texts: Sequence[tuple[str, ...]], tokenizer: PreTrainedTokenizerBase, *, max_seq_len: int | None = None
) -> tuple[list[list[int]], list[list[int]]]:
    """Return the token ids of pairs of texts, as :func:`encode_for_head` does, and the type of every token: 1 in the second text.

    Args:
        texts: two a row; the tokenizer :func:`types_pairs`.
        tokenizer, max_seq_len: as there.
    """
    if not texts:
        return [], []
    encoded = _encode(texts, tokenizer, max_seq_len, return_token_type_ids=True)
    return list(encoded["input_ids"]), list(encoded["token_type_ids"])


def types_pairs(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Return whether a tokenizer gives the tokens of a pair's second text another type than those of the first (BERT's segments)."""
    if "token_type_ids" not in tokenizer.model_input_names or not _separates(tokenizer):
        return False
    return any(_call(tokenizer, ["a"], ["a"], return_token_type_ids=True)["token_type_ids"][0])


def _encode(texts: Sequence[tuple[str, ...]], tokenizer: PreTrainedTokenizerBase, max_seq_len: int | None, **more: Any) -> Any:
    options = more if max_seq_len is None else {**more, "truncation": "longest_first", "max_length": max_seq_len}
    if len(texts[0]) == 1:
        return _call(tokenizer, [row[0] for row in texts], **options)
    if not _separates(tokenizer):
        return _call(tokenizer, [PAIR_SEPARATOR.join(row) for row in texts], **options)
    return _call(tokenizer, [row[0] for row in texts], [row[1] for row in texts], **options)


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
    sub_word: SubWord = "first",
    max_seq_len: int | None = None,
) -> list[tuple[list[int], list[int | None]]]:
    """Return for every text its token ids and, for each of its words, the position of its first or last sub-word.

    A word has no position when it is cut off, empty, or shares that token with an earlier word.

    Args:
        texts: whole texts.
        words: ``(start, end)`` of the words of each, in order.
        tokenizer: the model's.
        sub_word: which one stands for the word: a decoder knows all of a word at its last one alone.
        max_seq_len: longer ones lose their end.

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
    tokens_of = _first_tokens if sub_word == "first" else _last_tokens
    return [(ids, tokens_of(offsets, places)) for ids, offsets, places in rows]


def _last_tokens(offsets: Sequence[tuple[int, int]], words: Sequence[tuple[int, int]]) -> list[int | None]:
    """For each word the last token that reaches into it, unless that is an earlier word's."""
    found: list[int | None] = []
    token, taken = 0, -1
    for start, end in words:
        last = -1
        # special tokens are (0, 0); a token that reaches beyond the word may be the next one's too, so the search goes on from it
        while token < len(offsets) and offsets[token][0] < end:
            if offsets[token][1] > max(start, offsets[token][0]):
                last = token
            if offsets[token][1] > end:
                break
            token += 1
        reaches = start < end and last > taken
        found.append(last if reaches else None)
        taken = last if reaches else taken
    return found


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
    alone = tokenizer("a", add_special_tokens=False).input_ids
    return len(_call(tokenizer, ["a"], ["a"])["input_ids"][0]) > 2 * len(alone) + _num_around(tokenizer)


def _num_around(tokenizer: PreTrainedTokenizerBase) -> int:
    return int(tokenizer.num_special_tokens_to_add(pair=False))


def _call(tokenizer: PreTrainedTokenizerBase, *texts: list[str], **options: Any) -> Any:
    # verbose=False: a text longer than the model takes is our business, said once with its number
    usual = {"add_special_tokens": True, "return_attention_mask": False, "return_token_type_ids": False, "verbose": False}
    return tokenizer(*texts, **{**usual, **options})
