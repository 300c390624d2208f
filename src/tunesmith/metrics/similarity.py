"""Whether alike texts get greater scores than unlike ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from tunesmith.errors import UsageError
from tunesmith.metrics.protocol import Needs

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True)
class Spearman:
    """The rank correlation of scores and references, -1 to 1: whether more alike pairs have greater cosines."""

    name: ClassVar[str] = "spearman"
    headline: ClassVar[str] = "spearman"
    greater_is_better: ClassVar[bool] = True
    needs: ClassVar[Needs] = "scores"

    def compute(self, predictions: Sequence[float], references: Sequence[Sequence[Any]]) -> dict[str, float]:
        """Return ``spearman``; 0 where all scores or all references are equal."""
        import numpy as np
        from scipy.stats import spearmanr

        scores, right = np.asarray(predictions, dtype=np.float64), _numbers(references)
        if scores.min() == scores.max() or right.min() == right.max():
            return {"spearman": 0.0}
        return {"spearman": float(spearmanr(scores, right).statistic)}

    def per_row(self, predictions: Sequence[float], references: Sequence[Sequence[Any]]) -> None:
        """Return None: a single row has no rank."""
        return


@dataclass(frozen=True)
class Auc:
    """The probability that an alike pair scores above an unlike one (area under the ROC curve), 0 to 1."""

    name: ClassVar[str] = "auc"
    headline: ClassVar[str] = "auc"
    greater_is_better: ClassVar[bool] = True
    needs: ClassVar[Needs] = "scores"

    def compute(self, predictions: Sequence[float], references: Sequence[Sequence[Any]]) -> dict[str, float]:
        """Return ``auc``.

        Raises:
            UsageError: when references are not 0 and 1, both of them.
        """
        from sklearn.metrics import roc_auc_score

        right = _alike(references, self.name)
        if right.all() or not right.any():
            raise UsageError("auc needs alike and unlike pairs, but all pairs have the same label", fix="Leave auc out of --metrics")
        return {"auc": float(roc_auc_score(right, list(predictions)))}

    def per_row(self, predictions: Sequence[float], references: Sequence[Sequence[Any]]) -> None:
        """Return None: a single row has no curve."""
        return


@dataclass(frozen=True)
class ThresholdAccuracy:
    """The share of pairs on the right side of a cosine.

    Attributes:
        threshold: alike from here on; None looks for the one that fits these rows best, which flatters.
    """

    name: ClassVar[str] = "threshold_accuracy"
    headline: ClassVar[str] = "threshold_accuracy"
    greater_is_better: ClassVar[bool] = True
    needs: ClassVar[Needs] = "scores"

    threshold: float | None = None

    def compute(self, predictions: Sequence[float], references: Sequence[Sequence[Any]]) -> dict[str, float]:
        """Return ``threshold_accuracy``, 0 to 1, and the ``threshold``.

        Raises:
            UsageError: when references are not 0 and 1.
        """
        threshold = self.threshold if self.threshold is not None else best_threshold(predictions, _alike(references, self.name))
        right = ThresholdAccuracy(threshold).per_row(predictions, references)
        return {"threshold_accuracy": sum(right) / len(right), "threshold": threshold}

    def per_row(self, predictions: Sequence[float], references: Sequence[Sequence[Any]]) -> list[float]:
        """Return 1 for each pair on the right side, else 0."""
        alike = _alike(references, self.name)
        threshold = self.threshold if self.threshold is not None else best_threshold(predictions, alike)
        return [float((score >= threshold) == right) for score, right in zip(predictions, alike.tolist(), strict=True)]


def best_threshold(scores: Sequence[float], alike: Sequence[bool] | npt.NDArray[np.bool_]) -> float:
    """Return the score from which on counting pairs as alike is right most often: halfway between two scores, or beyond the last."""
    import numpy as np

    order = np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable")
    falling, right = np.asarray(scores, dtype=np.float64)[order], np.asarray(alike, dtype=bool)[order]
    num_right = np.concatenate([[(~right).sum()], (~right).sum() + np.cumsum(np.where(right, 1, -1))])  # by how many are taken as alike
    cut = np.concatenate([[True], falling[1:] < falling[:-1], [True]])  # equal scores stay on one side
    taken = int(np.argmax(np.where(cut, num_right, -1)))
    if taken == 0:
        return float(np.nextafter(falling[0], np.inf))
    return float(falling[-1]) if taken == len(falling) else float((falling[taken - 1] + falling[taken]) / 2)


def _numbers(references: Sequence[Sequence[Any]]) -> npt.NDArray[np.float64]:
    import numpy as np

    try:
        return np.asarray([float(right[0]) for right in references], dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise UsageError(f"a pair's label or score must be a number, but one is not: {error}") from error


def _alike(references: Sequence[Sequence[Any]], name: str) -> npt.NDArray[np.bool_]:
    numbers = _numbers(references)
    others = sorted(set(numbers.tolist()) - {0.0, 1.0})
    if others:
        raise UsageError(f"{name} needs labels 0 and 1, but there is {others[0]:g}", fix="Use --metrics spearman for graded scores")
    alike: npt.NDArray[np.bool_] = numbers == 1.0
    return alike
