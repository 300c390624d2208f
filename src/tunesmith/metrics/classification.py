"""How often a label is right: accuracy, and precision, recall and F1 averaged over the labels. By scikit-learn.

Averages run over the labels that occur in the references: an answer outside of them is a miss, not one more class. Where several labels
can be right at once (predictions are tuples), they run over every label that occurs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from tunesmith.errors import UsageError
from tunesmith.metrics.protocol import Needs

Label = str | tuple[str, ...]


@dataclass(frozen=True)
class Accuracy:
    """The share of rows whose label is right; with several labels at once, whose set of labels is right (subset accuracy)."""

    name: ClassVar[str] = "accuracy"
    headline: ClassVar[str] = "accuracy"
    greater_is_better: ClassVar[bool] = True
    needs: ClassVar[Needs] = "choices"

    def compute(self, predictions: Sequence[Label], references: Sequence[Sequence[str]]) -> dict[str, float]:
        """Return ``accuracy``, 0 to 1."""
        right = self.per_row(predictions, references)
        return {"accuracy": sum(right) / len(right)}

    def per_row(self, predictions: Sequence[Label], references: Sequence[Sequence[str]]) -> list[float]:
        """Return 1 where the label is right, else 0."""
        return [float(is_right(predicted, right)) for predicted, right in zip(predictions, references, strict=True)]


@dataclass(frozen=True)
class BalancedAccuracy:
    """The mean over labels of the share of rows found: accuracy as if every label were equally frequent."""

    name: ClassVar[str] = "balanced_accuracy"
    headline: ClassVar[str] = "balanced_accuracy"
    greater_is_better: ClassVar[bool] = True
    needs: ClassVar[Needs] = "choices"

    def compute(self, predictions: Sequence[Label], references: Sequence[Sequence[str]]) -> dict[str, float]:
        """Return ``balanced_accuracy``, 0 to 1 (the mean of the recalls, Brodersen et al. 2010).

        Raises:
            UsageError: where several labels can be right at once.
        """
        if _several_at_once(predictions):
            raise UsageError("balanced_accuracy is not defined where several labels can be right at once", fix="Use --metrics f1")
        import numpy as np
        from sklearn.metrics import recall_score

        truths, guesses, weights = _pairs(predictions, references)
        known = sorted(set(truths))
        recalls = recall_score(truths, guesses, labels=known, average=None, sample_weight=weights, zero_division=0.0)
        return {"balanced_accuracy": float(np.mean(recalls))}

    def per_row(self, predictions: Sequence[Label], references: Sequence[Sequence[str]]) -> None:
        """Return None: a single row has no balance."""
        return


@dataclass(frozen=True)
class _PerLabel:
    """One of precision, recall and F1: macro, micro, weighted, and for each label."""

    name: ClassVar[str]
    headline: ClassVar[str]
    greater_is_better: ClassVar[bool] = True
    needs: ClassVar[Needs] = "choices"

    def compute(self, predictions: Sequence[Label], references: Sequence[Sequence[str]]) -> dict[str, float]:
        """Return ``NAME_macro``, ``NAME_micro``, ``NAME_weighted``, and ``NAME[label]`` for each label; 0 to 1.

        A label that is never predicted has a precision of 0, not an undefined one.
        """
        import sklearn.metrics

        score = getattr(sklearn.metrics, f"{self.name}_score")
        if _several_at_once(predictions):
            truths, guesses, labels = _indicators(predictions, references)
            options: dict[str, Any] = {"zero_division": 0.0, "labels": list(range(len(labels)))}
        else:
            truths, guesses, weights = _pairs(predictions, references)
            labels = sorted(set(truths))
            options = {"zero_division": 0.0, "labels": labels, "sample_weight": weights}
        averages = {
            f"{self.name}_{kind}": float(score(truths, guesses, average=kind, **options)) for kind in ("macro", "micro", "weighted")
        }
        each = score(truths, guesses, average=None, **options)
        return averages | {f"{self.name}[{label}]": float(value) for label, value in zip(labels, each, strict=True)}

    def per_row(self, predictions: Sequence[Label], references: Sequence[Sequence[str]]) -> None:
        """Return None: a single row has no average over labels."""
        return


@dataclass(frozen=True)
class Precision(_PerLabel):
    """Of the rows given a label, the share that have it."""

    name = "precision"
    headline = "precision_macro"


@dataclass(frozen=True)
class Recall(_PerLabel):
    """Of the rows that have a label, the share given it."""

    name = "recall"
    headline = "recall_macro"


@dataclass(frozen=True)
class F1(_PerLabel):
    """The harmonic mean of precision and recall."""

    name = "f1"
    headline = "f1_macro"


def is_right(predicted: Label, right: Sequence[str]) -> bool:
    """Return whether a label is one of the right ones, or a set of labels the right set."""
    if isinstance(predicted, str):
        return predicted.strip() in {label.strip() for label in right}
    return set(predicted) == set(_each(right))


def _each(right: Sequence[str] | Sequence[Sequence[str]]) -> list[str]:
    """Return the right labels of a row, whether they are listed as they are or as one set of labels."""
    return [label for entry in right for label in ([entry] if isinstance(entry, str) else entry)]


def _several_at_once(predictions: Sequence[Label]) -> bool:
    return not isinstance(predictions[0], str)


def _pairs(predictions: Sequence[Label], references: Sequence[Sequence[str]]) -> tuple[list[str], list[str], list[int]]:
    """Return each (right, predicted) pair once, and how often it occurs: scores are the same, however many rows there are."""
    counts: Counter[tuple[str, str]] = Counter()
    for predicted, right in zip(predictions, references, strict=True):
        guess = str(predicted).strip()
        counts[(guess if is_right(guess, right) else right[0].strip(), guess)] += 1
    truths, guesses = zip(*counts, strict=True)
    return list(truths), list(guesses), list(counts.values())


def _indicators(predictions: Sequence[Label], references: Sequence[Sequence[str]]) -> tuple[Any, Any, list[str]]:
    """Return right and predicted labels as matrices of 0 and 1, a column for each label and perhaps one of zeros, and the labels."""
    from sklearn.preprocessing import MultiLabelBinarizer

    truths = [_each(right) for right in references]
    labels = sorted({label for labels in (*predictions, *truths) for label in labels})
    # scikit-learn takes a matrix of one column for a list of single labels; a blank is no label
    columns = labels if len(labels) > 1 else [*labels, " "]
    binarizer = MultiLabelBinarizer(classes=columns, sparse_output=True)
    return binarizer.fit_transform(truths), binarizer.fit_transform(predictions), labels
