"""Tags of words and spans of text: reading both from rows, and turning spans into tags."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tunesmith.data.head_inputs import split_words
from tunesmith.data.placeholders import as_text
from tunesmith.data.turns import parsed_json
from tunesmith.errors import DataError

OUTSIDE = "O"
_START, _END, _LABEL = ("start", "begin", "start_offset"), ("end", "stop", "end_offset"), ("label", "tag", "type", "entity")


def read_tags(row: Mapping[str, Any], words_column: str, tags_column: str) -> tuple[list[str], list[str]] | None:
    """Return the words of a row and the tag of each; None for a row without tags.

    Raises:
        DataError: for columns that are no lists of one length, and tags that are numbers without names.
    """
    words, tags = parsed_json(row.get(words_column)), parsed_json(row.get(tags_column))
    if tags is None:
        return None
    if not isinstance(words, (list, tuple)) or not isinstance(tags, (list, tuple)):
        column, found = (words_column, words) if not isinstance(words, (list, tuple)) else (tags_column, tags)
        raise DataError(f"column '{column}' is no list, it holds {str(found)[:60]!r}", fix='Write ["two", "words"] and ["O", "B-person"].')
    if len(words) != len(tags):
        raise DataError(f"{len(words)} words in '{words_column}', but {len(tags)} tags in '{tags_column}'", fix="Give every word one tag.")
    if not words:
        return None
    others = [tag for tag in tags if not isinstance(tag, str)]
    if others:
        what = "is empty" if others[0] is None else f"is {others[0]!r}, a number without a name"
        raise DataError(f"a tag in '{tags_column}' {what}", fix="Write tags as text: O, B-person, I-person.")
    return [as_text(word) for word in words], [tag.strip() or OUTSIDE for tag in tags]


def read_spans(row: Mapping[str, Any], text_column: str, spans_column: str) -> tuple[str, list[tuple[int, int]], list[str]] | None:
    """Return the text of a row, where its words are, and the tag of each (B-… and I-…); None for a row without spans.

    Raises:
        DataError: for spans without start, end and label, outside the text, or over one another.
    """
    text, spans = as_text(row.get(text_column)), parsed_json(row.get(spans_column))
    if spans is None:
        return None
    if not isinstance(spans, (list, tuple)):
        raise DataError(f"column '{spans_column}' is no list of spans", fix='Write [{"start": 0, "end": 4, "label": "person"}].')
    if not text.strip():
        raise DataError(f"column '{text_column}' is empty", fix="Remove the row, or give it a text.")
    places = sorted(_span(span, len(text), spans_column) for span in spans)
    for (_, end, _), (start, _, _) in itertools.pairwise(places):
        if start < end:
            raise DataError(f"two spans in '{spans_column}' overlap at character {start}", fix="Keep one of them: a word has one tag.")
    words = split_words(text)
    return text, words, [_tag(word, places) for word in words]


def scheme_of(tags: Sequence[str]) -> str:
    """Return how tags say where a span begins: ``BIOES``, ``BIO`` or ``IO`` (bare labels count as IO)."""
    prefixes = {match[1] for tag in tags if (match := re.match(r"([BIESLU])-", tag))}
    if prefixes & set("ESLU"):
        return "BIOES"
    return "BIO" if "B" in prefixes else "IO"


def _span(span: object, length: int, column: str) -> tuple[int, int, str]:
    """One span, as a mapping or as ``[start, end, label]``."""
    if isinstance(span, (list, tuple)) and len(span) == 3:
        start, end, label = span
    elif isinstance(span, Mapping):
        start, end, label = (next((span[name] for name in names if span.get(name) is not None), None) for names in (_START, _END, _LABEL))
    else:
        start = end = label = None
    if not isinstance(start, int) or not isinstance(end, int) or not isinstance(label, str) or not label.strip():
        raise DataError(f"a span in '{column}' is {str(span)[:80]}", fix='Write {"start": 0, "end": 4, "label": "person"}.')
    if not 0 <= start < end <= length:
        raise DataError(
            f"a span in '{column}' goes from {start} to {end}, the text has {length} characters", fix="Count from 0; end is exclusive."
        )
    return start, end, label.strip()


def _tag(word: tuple[int, int], spans: Sequence[tuple[int, int, str]]) -> str:
    """The tag of a word: that of the span which it overlaps; B where the span begins in it, or it is the span's first word."""
    for start, end, label in spans:
        if word[0] < end and start < word[1]:
            return f"{'B' if start >= word[0] else 'I'}-{label}"
    return OUTSIDE
