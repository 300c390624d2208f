"""Spans found in texts against the right ones: rows of words with tags, or of texts with spans."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunesmith.data.head_inputs import join_words, split_words
from tunesmith.data.placeholders import as_text
from tunesmith.data.turns import parsed_json
from tunesmith.errors import DataError
from tunesmith.evaluate.answering import Prediction
from tunesmith.metrics.protocol import Needs
from tunesmith.runtime.protocol import Span
from tunesmith.runtime.tagger import TaggerRuntime, Words, spans_as_json, spans_of

Row = Mapping[str, Any]


@dataclass(frozen=True)
class _Tagged:
    """A row: its text, its words, the right spans, and the places at which tags are compared."""

    text: str
    words: Words
    spans: list[Span]
    places: Words


@dataclass(frozen=True)
class Tagging:
    """Asks for the spans in a text."""

    runtime: TaggerRuntime
    reference_column: str | None = None
    offers: frozenset[Needs] = frozenset({"spans"})

    def references(self, row: Row) -> list[str]:
        """Return the right spans of a row as one JSON text; none when the column is missing."""
        if row.get(self._label_column(row)) is None:
            return []
        tagged = self._read(row)
        return [spans_as_json(tagged.text, tagged.spans)]

    def predict(self, rows: Sequence[Row], needs: frozenset[Needs]) -> list[Prediction]:
        """Tag all rows; words are compared where rows have words, characters where they have spans."""
        tagged = [self._read(row) for row in rows]
        found = self.runtime.tag([row.text for row in tagged], [row.words for row in tagged])
        predictions = []
        for row, spans in zip(tagged, found, strict=True):
            forms: dict[Needs, tuple[Any, list[Any]]] = {"spans": (bio_tags(spans, row.places), bio_tags(row.spans, row.places))}
            predictions.append(Prediction(row.text, spans_as_json(row.text, spans), [spans_as_json(row.text, row.spans)], forms))
        return predictions

    def _label_column(self, row: Row) -> str:
        known = self.reference_column or self.runtime.task.label_column or "tags"
        return known if known in row else next((name for name in ("tags", "ner_tags", "spans", "entities") if name in row), known)

    def _read(self, row: Row) -> _Tagged:
        column = (self.runtime.task.text_columns or ("text",))[0]
        column = column if column in row else next((name for name in ("tokens", "words", "text") if name in row), column)
        if column not in row:
            raise DataError(f"a row has no column '{column}', which the model was trained on; it has: {', '.join(row)}")
        value, right = parsed_json(row[column]), parsed_json(row[self._label_column(row)])
        if isinstance(value, (list, tuple)):
            words = [as_text(word) for word in value]
            text, places = join_words(words)
            if len(right) != len(words):
                raise DataError(f"a row has {len(words)} words but {len(right)} tags", fix="Give one tag for each word")
            return _Tagged(text, places, spans_of([as_text(tag) for tag in right], places), places)
        text = as_text(value)
        spans = sorted((_span(entry, text) for entry in right), key=lambda span: (span.start, span.end))
        return _Tagged(text, split_words(text), spans, [(place, place + 1) for place in range(len(text))])


def bio_tags(spans: Sequence[Span], places: Words) -> list[str]:
    """Return a BIO tag for each place in a text; a place in several spans belongs to the first."""
    tags = ["O"] * len(places)
    for span in spans:
        inside = [number for number, (start, end) in enumerate(places) if span.start <= start and end <= span.end and tags[number] == "O"]
        for number in inside:
            tags[number] = f"{'B' if number == inside[0] else 'I'}-{span.label}"
    return tags


def _span(entry: Any, text: str) -> Span:
    """Read a span as rows have it: an object with start, end and label, or these three in a list.

    Raises:
        DataError: for anything else, or a span outside of the text.
    """
    values = [entry.get("start"), entry.get("end"), entry.get("label")] if isinstance(entry, Mapping) else list(entry)
    if len(values) != 3 or not isinstance(values[0], int) or not isinstance(values[1], int):
        shown = json.dumps(entry, default=str)[:60]
        raise DataError(f"a span is not understood: {shown}", fix='Write {"start": 0, "end": 5, "label": "…"}')
    if not 0 <= values[0] < values[1] <= len(text):
        raise DataError(f"a span from {values[0]} to {values[1]} lies outside of its text of {len(text)} characters")
    return Span(values[0], values[1], as_text(values[2]))
