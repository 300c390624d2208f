"""Spans found in texts against the right ones: rows of words with tags, or of texts with spans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunesmith.data.head_inputs import join_words
from tunesmith.data.spans import read_spans, read_tags
from tunesmith.data.turns import parsed_json
from tunesmith.errors import DataError
from tunesmith.evaluate.answering import Prediction
from tunesmith.metrics.protocol import Needs
from tunesmith.runtime.protocol import Span
from tunesmith.runtime.tagger import TaggerRuntime, Words, spans_as_json, spans_of

Row = Mapping[str, Any]


@dataclass(frozen=True)
class _Tagged:
    """A row: its text, its words, the right spans."""

    text: str
    words: Words
    spans: list[Span]


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
        """Tag all rows. What is compared are the tags of words, those of the rows or, of a text with spans, its words and signs."""
        tagged = [self._read(row) for row in rows]
        found = self.runtime.tag([row.text for row in tagged], [row.words for row in tagged])
        predictions = []
        for row, spans in zip(tagged, found, strict=True):
            forms: dict[Needs, tuple[Any, list[Any]]] = {"spans": (bio_tags(spans, row.words), bio_tags(row.spans, row.words))}
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
        label_column = self._label_column(row)
        if isinstance(parsed_json(row[column]), (list, tuple)):
            words, tags = read_tags(row, column, label_column) or ([], [])
            text, places = join_words(words)
        else:
            text, places, tags = read_spans(row, column, label_column) or ("", [], [])
        return _Tagged(text, places, spans_of(tags, places))


def bio_tags(spans: Sequence[Span], places: Words) -> list[str]:
    """Return a BIO tag for each place in a text; a place in several spans belongs to the first."""
    tags = ["O"] * len(places)
    for span in spans:
        inside = [number for number, (start, end) in enumerate(places) if span.start <= start and end <= span.end and tags[number] == "O"]
        for number in inside:
            tags[number] = f"{'B' if number == inside[0] else 'I'}-{span.label}"
    return tags
