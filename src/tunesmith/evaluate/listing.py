"""Asking a model that writes a list of the labels it knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tunesmith.data.label_lists import read_labels, write_labels
from tunesmith.evaluate.answering import Prediction, likelihood_pair, shown_of
from tunesmith.evaluate.references import right_labels
from tunesmith.metrics.protocol import Needs

if TYPE_CHECKING:
    from tunesmith.runtime.protocol import Likelihood, Runtime


@dataclass(frozen=True)
class Listing:
    """Asks for any number of labels at once."""

    runtime: Runtime
    max_new_tokens: int = 256
    batch_size: int | None = None
    reference_column: str | None = None
    offers: frozenset[Needs] = frozenset({"choices", "text", "likelihood"})

    def references(self, row: Mapping[str, Any]) -> list[str]:
        """Return all labels that are right for a row."""
        task = self.runtime.task
        return right_labels(task, row.get(self.reference_column or task.label_column or "label"))

    def predict(self, rows: Sequence[Mapping[str, Any]], needs: frozenset[Needs]) -> list[Prediction]:
        """Have the lists written; one that is cut, or no list because nothing held it to be one, is a single unknown label."""
        rights = [self.references(row) for row in rows]
        scores: Sequence[Likelihood | None] = [None] * len(rows)
        if "likelihood" in needs:
            scores = self.runtime.log_likelihoods([(row, self._written(right)) for row, right in zip(rows, rights, strict=True)])
        answers = self.runtime.generate(list(rows), max_new_tokens=self.max_new_tokens, batch_size=self.batch_size)
        found = []
        for row, right, answer, score in zip(rows, rights, answers, scores, strict=True):
            labels = read_labels(answer.text.strip())
            forms: dict[Needs, tuple[Any, list[Any]]] = {
                "choices": (labels, right),
                "text": (answer.text.strip(), [self._written(right)]),
                "likelihood": (likelihood_pair(score), right),
            }
            shown = shown_of(self.runtime, row)
            found.append(Prediction(shown, ", ".join(labels), right, forms, answer.stopped, answer.num_tokens))
        return found

    def _written(self, labels: Sequence[str]) -> str:
        known = self.runtime.task.labels
        order = {label: number for number, label in enumerate(known)}
        return write_labels(sorted(labels, key=lambda label: (order.get(label, len(known)), label)))
