"""What every metric offers: numbers from what a model said and what was right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

#: What a metric compares, and so what it can be asked of:
#:
#: ``text``           predictions: one text a row; references: the texts that are right, at least one a row.
#: ``choices``        predictions: a label a row, or a tuple of labels where several can be right at once; references: the right labels.
#: ``probabilities``  predictions: a mapping label -> probability a row; references: the right labels.
#: ``spans``          predictions and references: a list of BIO tags a row.
#: ``scores``         predictions: a number a row; references: one number or label a row, in a list.
#: ``likelihood``     predictions: what `Runtime.log_likelihoods` returns for the right answer; references are not looked at.
Needs = Literal["text", "choices", "probabilities", "spans", "scores", "likelihood"]


class Metric(Protocol):
    """Numbers from what a model said and what was right."""

    @property
    def name(self) -> str:
        """What it is called on the command line."""

    @property
    def headline(self) -> str:
        """Which of the numbers of :meth:`compute` stands for the metric."""

    @property
    def greater_is_better(self) -> bool:
        """Whether a greater ``headline`` is better."""

    @property
    def needs(self) -> Needs:
        """What is compared."""

    def compute(self, predictions: Sequence[Any], references: Sequence[Sequence[Any]]) -> dict[str, float]:
        """Return numbers by name over all rows.

        Args:
            predictions, references: one of each a row, at least one row; see ``Needs``.

        Raises:
            UsageError: when the metric isn't defined for such rows.
        """

    def per_row(self, predictions: Sequence[Any], references: Sequence[Sequence[Any]]) -> list[float] | None:
        """Return one number a row, greater is better; None for a metric that has no meaning for a single row."""
