"""Segments of text to token ids, such that training sees exactly the ids that inference will feed.

The rule: the prompt's ids are those of the prompt alone. Where the ids of prompt and answer together begin with them, the rest is
the answer; otherwise (a token would straddle the border) the answer is tokenized alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORE_INDEX = -100


@dataclass(frozen=True)
class Segment:
    """A stretch of an example's text, and whether the loss is on it."""

    text: str
    supervised: bool


def merge_segments(segments: Sequence[Segment]) -> list[Segment]:
    """Join neighbours of one kind and drop empty ones and the unsupervised end, which nothing is learnt from."""
    merged: list[Segment] = []
    for segment in segments:
        if not segment.text:
            continue
        if merged and merged[-1].supervised == segment.supervised:
            merged[-1] = Segment(merged[-1].text + segment.text, segment.supervised)
        else:
            merged.append(segment)
    if merged and not merged[-1].supervised:
        merged.pop()
    return merged


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> set[str]:
    """Return the tokens that a tokenizer reads as one id wherever they stand."""
    return {token for token in (*tokenizer.get_added_vocab(), *tokenizer.all_special_tokens) if token.strip()}


def bos_token_id(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Return the id of the token that the tokenizer puts before every text, None when it puts none."""
    ids = tokenizer("a").input_ids
    return tokenizer.bos_token_id if tokenizer.bos_token_id is not None and ids[:1] == [tokenizer.bos_token_id] else None


def encode_texts(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """Return the ids of whole texts, with the tokenizer's BOS token exactly once where it uses one."""
    bos = bos_token_id(tokenizer)
    return [_with_bos(ids, bos) for ids in _encode(texts, tokenizer)]


def _with_bos(ids: list[int], bos: int | None) -> list[int]:
    return ids if bos is None or ids[:1] == [bos] else [bos, *ids]


def _encode(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """Return the ids of texts as they are, without what the tokenizer would add around them."""
    if not texts:
        return []
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or getattr(tokenizer, "split_special_tokens", False):
        # verbose=False: a row longer than the model takes is our business, said once with its number.
        encoded = tokenizer(list(texts), add_special_tokens=False, return_attention_mask=False, verbose=False)
        return list(encoded["input_ids"])
    # The same ids in a third of the time: no masks, offsets and copies of them.
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = False
    return [encoding.ids for encoding in backend.encode_batch_fast(list(texts), add_special_tokens=False)]


class SpecialTokens:
    """Finds special tokens in texts."""

    def __init__(self, tokens: Iterable[str]) -> None:
        # Longest first, so that a token is never taken for its own beginning.
        self.tokens = tuple(sorted(tokens, key=len, reverse=True))
        firsts = "".join(re.escape(char) for char in sorted({token[0] for token in self.tokens}))
        self._starts = re.compile(f"[{firsts}]") if firsts else None

    def last(self, text: str) -> tuple[str, int]:
        """Return the last special token in a text and where it ends; an empty one when there is none."""
        starts = [match.start() for match in self._starts.finditer(text)] if self._starts else []
        for start in reversed(starts):
            if text.startswith(self.tokens, start):
                token = next(token for token in self.tokens if text.startswith(token, start))
                return token, start + len(token)
        return "", 0


@dataclass(frozen=True)
class _Piece:
    """Segments that are tokenized together, behind the special token that ends what came before ('' at the start)."""

    lead: str
    segments: tuple[Segment, ...]

    def texts(self) -> list[str]:
        """Return the whole, then each beginning of it that ends where a segment ends."""
        grown, beginnings = self.lead, []
        for segment in self.segments:
            grown += segment.text
            beginnings.append(grown)
        return [beginnings[-1], *beginnings[:-1]]


def encode_examples(examples: Sequence[Sequence[Segment]], tokenizer: PreTrainedTokenizerBase) -> list[tuple[list[int], list[int]]]:
    """Tokenize examples in one batch.

    Args:
        examples: each a list of segments as :func:`merge_segments` leaves them.

    Returns: for each example ``(input_ids, labels)`` of one length; ``labels`` is -100 where nothing is learnt (always so at
    the first position, which nothing predicts).
    """
    special = SpecialTokens(special_tokens(tokenizer))
    bos = bos_token_id(tokenizer)
    split = [list(_pieces(segments, special)) for segments in examples]
    encoded = iter(_encode([text for pieces in split for piece in pieces for text in piece.texts()], tokenizer))
    results = []
    for pieces in split:
        ids: list[int] = []
        labels: list[int] = []
        for piece in pieces:
            parts = [next(encoded) for _ in piece.segments]
            for segment, tokens in zip(piece.segments, _divide(piece, parts, tokenizer), strict=True):
                ids += tokens
                labels += tokens if segment.supervised else [IGNORE_INDEX] * len(tokens)
        if bos is not None and ids[:1] != [bos]:
            ids, labels = [bos, *ids], [IGNORE_INDEX, *labels]
        if labels:
            labels[0] = IGNORE_INDEX
        results.append((ids, labels))
    return results


def _pieces(segments: Sequence[Segment], special: SpecialTokens) -> Iterator[_Piece]:
    """Cut an example behind the last special token of each segment.

    Text before such a token never changes how the text behind it is tokenized: so each text is tokenized about once, however many
    turns it has. The token leads the next piece, so that this isn't taken for the start of a text.
    """
    lead = ""
    waiting: list[Segment] = []
    for segment in segments[:-1]:
        token, end = special.last(segment.text)
        if not token:
            waiting.append(segment)
            continue
        yield _Piece(lead, (*waiting, Segment(segment.text[:end], segment.supervised)))
        lead, rest = token, segment.text[end:]
        waiting = [Segment(rest, segment.supervised)] if rest else []
    if segments:
        yield _Piece(lead, (*waiting, segments[-1]))


def _divide(piece: _Piece, encoded: Sequence[list[int]], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """Return the ids of each segment of a piece, without its lead.

    Args:
        encoded: ids of the whole and of its beginnings, as ``piece.texts()`` lists them.
    """
    whole, *beginnings = encoded
    skipped = 1 if piece.lead else 0
    if all(whole[: len(beginning)] == beginning for beginning in beginnings):
        ends = [skipped, *(len(beginning) for beginning in beginnings), len(whole)]
        return [whole[start:end] for start, end in pairwise(ends)]
    alone = _encode([segment.text for segment in piece.segments[1:]], tokenizer)
    return [beginnings[0][skipped:], *alone]
