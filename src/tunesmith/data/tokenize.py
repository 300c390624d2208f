"""Segments of text to token ids, such that training sees exactly the ids that inference will feed.

The rule: the prompt's ids are those of the prompt alone. Where the ids of prompt and answer together begin with them, the rest is
the answer; otherwise (a token would straddle the border) the answer is tokenized alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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


def bos_token_id(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Return the id of the token that the tokenizer puts before every text, None when it puts none."""
    ids = tokenizer("a").input_ids
    return tokenizer.bos_token_id if tokenizer.bos_token_id is not None and ids[:1] == [tokenizer.bos_token_id] else None


def encode_texts(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """Return the ids of whole texts, with the tokenizer's BOS token exactly once where it uses one."""
    if not texts:
        return []
    encoded: list[list[int]] = tokenizer(list(texts), add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]
    bos = bos_token_id(tokenizer)
    if bos is not None:
        return [ids if ids[:1] == [bos] else [bos, *ids] for ids in encoded]
    return encoded


def encode_continuations(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """Return the ids of texts that go on from something: no BOS token."""
    if not texts:
        return []
    encoded: list[list[int]] = tokenizer(list(texts), add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]
    return encoded


def encode_examples(examples: Sequence[Sequence[Segment]], tokenizer: PreTrainedTokenizerBase) -> list[tuple[list[int], list[int]]]:
    """Tokenize examples in one batch.

    Args:
        examples: each a list of segments as :func:`merge_segments` leaves them.

    Returns: for each example ``(input_ids, labels)`` of one length; ``labels`` is -100 where nothing is learnt (always so at
    the first position, which nothing predicts). An example without segments gives two empty lists.
    """
    borders = [_borders(segments) for segments in examples]
    texts = ["".join(segment.text for segment in segments) for segments in examples]
    prefixes = [text[:border] for text, inner in zip(texts, borders, strict=True) for border in inner]
    encoded = encode_texts([*texts, *prefixes], tokenizer)
    wholes, rest = encoded[: len(texts)], iter(encoded[len(texts) :])
    results = []
    for segments, inner, whole in zip(examples, borders, wholes, strict=True):
        parts = [next(rest) for _ in inner]
        if all(whole[: len(part)] == part for part in parts):
            results.append(_label(segments, whole, [len(part) for part in parts]))
        else:
            results.append(_piecewise(segments, parts, tokenizer))
    return results


def _borders(segments: Sequence[Segment]) -> list[int]:
    """Return the character positions at which one segment ends and the next begins."""
    positions, total = [], 0
    for segment in segments[:-1]:
        total += len(segment.text)
        positions.append(total)
    return positions


def _label(segments: Sequence[Segment], ids: list[int], borders: Sequence[int]) -> tuple[list[int], list[int]]:
    labels: list[int] = []
    for segment, start, end in zip(segments, [0, *borders], [*borders, len(ids)], strict=False):
        labels += ids[start:end] if segment.supervised else [IGNORE_INDEX] * (end - start)
    if labels:
        labels[0] = IGNORE_INDEX
    return ids, labels


def _piecewise(
    segments: Sequence[Segment], prefixes: Sequence[list[int]], tokenizer: PreTrainedTokenizerBase
) -> tuple[list[int], list[int]]:
    """Tokenize each segment after the first alone; the first is the prompt as inference feeds it."""
    pieces = [prefixes[0], *encode_continuations([segment.text for segment in segments[1:]], tokenizer)]
    borders, total = [], 0
    for piece in pieces[:-1]:
        total += len(piece)
        borders.append(total)
    return _label(segments, [token for piece in pieces for token in piece], borders)
