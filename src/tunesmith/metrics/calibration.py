"""Whether a model is as often right as it says it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from tunesmith.metrics.protocol import Needs

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True)
class Calibration:
    """Expected calibration error and Brier score.

    Attributes:
        multi_label: any number of labels may be right at once: every label is a decision of its own, taken at 0.5.
        num_bins: of equal width, for the calibration error.
    """

    name: ClassVar[str] = "calibration"
    headline: ClassVar[str] = "ece"
    greater_is_better: ClassVar[bool] = False
    needs: ClassVar[Needs] = "probabilities"

    multi_label: bool = False
    num_bins: int = 15

    def compute(self, predictions: Sequence[Mapping[str, float]], references: Sequence[Sequence[str]]) -> dict[str, float]:
        """Return ``ece`` (0 to 1), ``brier`` (0 to 2; 0 to 1 with several labels at once) and ``mean_confidence``.

        ECE is the mean over bins of |accuracy - confidence|, weighted by their rows (Guo et al. 2017, equation 3). The Brier score is
        the squared distance between the probabilities and the truth, summed over labels (Brier 1950), a mean over labels when several can
        be right at once.
        """
        confidence, right = self.decisions(predictions, references)
        squares = [-value for value in self.per_row(predictions, references)]
        ece = expected_calibration_error(confidence, right, num_bins=self.num_bins)
        return {"ece": ece, "brier": sum(squares) / len(squares), "mean_confidence": float(confidence.mean())}

    def per_row(self, predictions: Sequence[Mapping[str, float]], references: Sequence[Sequence[str]]) -> list[float]:
        """Return minus the Brier score of each row."""
        scores = []
        for probabilities, right in zip(predictions, references, strict=True):
            labels = {*probabilities, *right}  # a right label that isn't known to the model has a probability of 0
            total = sum((probabilities.get(label, 0.0) - (label in right)) ** 2 for label in labels)
            scores.append(-total / len(labels) if self.multi_label else -total)
        return scores

    def decisions(
        self, predictions: Sequence[Mapping[str, float]], references: Sequence[Sequence[str]]
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
        """Return how sure each decision was and whether it was right, for the error and for a reliability diagram."""
        import numpy as np

        confidence, right = [], []
        for probabilities, labels in zip(predictions, references, strict=True):
            if self.multi_label:
                confidence += [max(value, 1 - value) for value in probabilities.values()]
                right += [(value >= 0.5) == (label in labels) for label, value in probabilities.items()]
            else:
                label, value = max(probabilities.items(), key=lambda item: item[1])
                confidence.append(value)
                right.append(label in labels)
        return np.array(confidence, dtype=np.float64), np.array(right, dtype=np.bool_)


def expected_calibration_error(confidence: npt.NDArray[np.float64], right: npt.NDArray[np.bool_], *, num_bins: int = 15) -> float:
    """Return the expected calibration error over bins ``(0, 1/n], (1/n, 2/n] …`` (Guo et al. 2017, equation 3).

    Args:
        confidence: ``(N,)`` probabilities of the decisions taken.
        right: ``(N,)`` whether they were right.
    """
    import numpy as np

    bins = np.clip(np.ceil(confidence * num_bins).astype(int) - 1, 0, num_bins - 1)
    gaps = np.bincount(bins, right - confidence, minlength=num_bins)
    return float(np.abs(gaps).sum() / len(confidence))
