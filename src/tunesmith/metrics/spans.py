"""Named entities found: span-level precision, recall and F1 by seqeval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from tunesmith.metrics.protocol import Needs


@dataclass(frozen=True)
class SpanF1:
    """Precision, recall and F1 of spans: one counts when its beginning, its end and its label are right (CoNLL-2003)."""

    name: ClassVar[str] = "span_f1"
    headline: ClassVar[str] = "span_f1"
    greater_is_better: ClassVar[bool] = True
    needs: ClassVar[Needs] = "spans"

    def compute(self, predictions: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> dict[str, float]:
        """Return ``span_precision``, ``span_recall`` and ``span_f1`` over all spans, and ``span_f1[label]``; 0 to 1.

        Args:
            predictions, references: the tags of each row (``B-x``, ``I-x``, ``O``), of one length.
        """
        from seqeval.metrics import classification_report

        tagged = [list(row) for row in references], [list(row) for row in predictions]
        if not any(tag != "O" for rows in tagged for row in rows for tag in row):
            return {"span_f1": 1.0, "span_precision": 1.0, "span_recall": 1.0}
        report = classification_report(*tagged, output_dict=True, zero_division=0)
        overall = report.pop("micro avg")
        scores = {"span_f1": overall["f1-score"], "span_precision": overall["precision"], "span_recall": overall["recall"]}
        labels = {label: each["f1-score"] for label, each in report.items() if not label.endswith(" avg")}
        return {name: float(value) for name, value in {**scores, **{f"span_f1[{label}]": value for label, value in labels.items()}}.items()}

    def per_row(self, predictions: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> list[float]:
        """Return the F1 of each row's spans; 1 where none are there and none were found."""
        from seqeval.metrics.sequence_labeling import get_entities

        scores = []
        for predicted, right in zip(predictions, references, strict=True):
            ours, theirs = set(get_entities(list(predicted))), set(get_entities(list(right)))
            scores.append(2 * len(ours & theirs) / (len(ours) + len(theirs)) if ours or theirs else 1.0)
        return scores
