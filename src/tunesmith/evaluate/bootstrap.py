"""How certain a difference is: the paired bootstrap over rows (Efron & Tibshirani 1993, An Introduction to the Bootstrap, ch. 13, 14).

Two models are scored on the same rows. Drawing rows again with replacement, many times, shows how much the mean difference would have
varied with other rows of the same kind; the middle 95% of these means are the interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tunesmith.errors import ShapeError, UsageError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

NUM_RESAMPLES = 10_000
#: Above so many rows the exact test needs numbers of thousands of digits.
_EXACT_UP_TO = 1000
#: Scores that differ by less are equal.
_EQUAL = 1e-12
#: Floats alive at once while resampling, whatever the number of rows.
_DRAWS_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class Difference:
    """The mean difference between two models on the same rows, and how certain it is.

    Attributes:
        mean: of ``second - first`` over rows.
        low, high: the interval of that mean.
        num_rows: rows scored.
        num_better, num_worse: rows on which the second is better, and worse.
        all_or_nothing: whether every difference is of the same size, as with answers that are right or wrong.
        confidence: of the interval; what chance alone does more often than the rest is not shown.
    """

    mean: float
    low: float
    high: float
    num_rows: int
    num_better: int
    num_worse: int
    all_or_nothing: bool = False
    confidence: float = 0.95

    @property
    def num_different(self) -> int:
        """Rows on which the two differ."""
        return self.num_better + self.num_worse

    @property
    def chance(self) -> float:
        """How often equal models would differ as one-sidedly: the p-value of the exact two-sided sign test (McNemar 1947)."""
        fewer, count = min(self.num_better, self.num_worse), self.num_different
        if count > _EXACT_UP_TO:  # the normal approximation, with its correction for steps of one
            return math.erfc(max(0.0, count - 2 * fewer - 1) / math.sqrt(2 * count))
        share: float = 2 * sum(math.comb(count, hits) for hits in range(fewer + 1)) / 2**count
        return min(1.0, share)

    @property
    def enough(self) -> bool:
        """Whether so many rows differ that the interval can be believed.

        With few rows the bootstrap finds certainty where there is none: five rows that all got better give an interval of no width. So
        as many have to differ as an exact test needs at least, six for 95% and eight for 99%; and where answers are right or wrong,
        that test has to agree.
        """
        most_chance = 1 - self.confidence + _EQUAL
        return self.chance <= most_chance if self.all_or_nothing else 2 / 2**self.num_different <= most_chance

    @property
    def is_better(self) -> bool:
        """Whether the second is shown to be better than the first."""
        return self.low > 0 and self.enough

    @property
    def is_worse(self) -> bool:
        """Whether the second is shown to be worse than the first."""
        return self.high < 0 and self.enough


def paired_difference(
    first: Sequence[float],
    second: Sequence[float],
    *,
    confidence: float = 0.95,
    num_resamples: int = NUM_RESAMPLES,
    method: Literal["percentile", "bca"] = "bca",
    seed: int = 0,
) -> Difference:
    """Return the mean of ``second - first`` with its bootstrap interval.

    Args:
        first, second: one score a row, of the same rows in the same order; greater is better.
        confidence: of the interval.
        num_resamples: samples drawn.
        method: ``percentile``, or ``bca``, which corrects it for bias and skewness (Efron 1987; Efron & Tibshirani 1993, section 14.3).
        seed: the same seed gives the same interval.

    Raises:
        ShapeError: when the numbers of rows differ or there is none.
        UsageError: for a confidence outside 0 … 1 or scores that are not numbers.
    """
    import numpy as np

    if len(first) != len(second) or not len(first):
        raise ShapeError(f"a paired comparison needs the same rows twice, found {len(first)} and {len(second)}")
    if not 0 < confidence < 1:
        raise UsageError(f"a confidence of {confidence} is no probability", fix="Give a number between 0 and 1, e.g. 0.95")
    differences = np.asarray(second, dtype=np.float64) - np.asarray(first, dtype=np.float64)
    if not np.isfinite(differences).all():
        raise UsageError(f"{int((~np.isfinite(differences)).sum())} of {len(differences)} rows have a score that is not a finite number")
    low, high = (1 - confidence) / 2, (1 + confidence) / 2
    if np.ptp(differences) == 0:
        bounds = (float(differences[0]), float(differences[0]))
    else:
        means = resampled_means(differences, num_resamples, seed)
        levels = (low, high) if method == "percentile" else bca_levels(differences, means, (low, high))
        bounds = (float(np.quantile(means, levels[0])), float(np.quantile(means, levels[1])))
    sizes = np.abs(differences[np.abs(differences) > _EQUAL])
    return Difference(
        float(differences.mean()),
        *bounds,
        num_rows=len(differences),
        num_better=int((differences > _EQUAL).sum()),
        num_worse=int((differences < -_EQUAL).sum()),
        all_or_nothing=bool(len(sizes)) and bool(np.ptp(sizes) <= _EQUAL),
        confidence=confidence,
    )


def resampled_means(values: npt.NDArray[np.float64], num_resamples: int, seed: int) -> npt.NDArray[np.float64]:
    """Return ``(num_resamples,)`` means of as many samples of ``values``, each drawn with replacement."""
    import numpy as np

    random = np.random.default_rng(seed)
    at_once = max(1, _DRAWS_AT_ONCE // len(values))
    parts = []
    for start in range(0, num_resamples, at_once):
        count = min(at_once, num_resamples - start)
        parts.append(values[random.integers(0, len(values), size=(count, len(values)))].mean(axis=1))
    return np.concatenate(parts)


def bca_levels(values: npt.NDArray[np.float64], means: npt.NDArray[np.float64], levels: tuple[float, float]) -> tuple[float, float]:
    """Return the quantile levels that the bias-corrected and accelerated interval reads (Efron & Tibshirani 1993, eq. 14.9 to 14.15).

    Args:
        values: ``(N,)`` differences; not all the same.
        means: of the bootstrap samples.
        levels: those of the percentile interval, e.g. 0.025 and 0.975.
    """
    from statistics import NormalDist

    import numpy as np

    normal = NormalDist()
    # ties count half: means of a few discrete values often hit the observed one exactly
    below = float((means < values.mean()).mean() + (means == values.mean()).mean() / 2)
    if not 0 < below < 1:
        return levels
    bias = normal.inv_cdf(below)
    jackknife = (values.sum() - values) / max(len(values) - 1, 1)
    spread = jackknife.mean() - jackknife
    acceleration = float((spread**3).sum() / (6 * max((spread**2).sum(), np.finfo(np.float64).tiny) ** 1.5))
    adjusted = []
    for level in levels:
        shifted = bias + normal.inv_cdf(level)
        adjusted.append(normal.cdf(bias + shifted / (1 - acceleration * shifted)))
    return adjusted[0], adjusted[1]


def mean_interval(scores: Sequence[float], *, confidence: float = 0.95, seed: int = 0) -> Difference:
    """Return the mean of one model's scores with its bootstrap interval: a difference from nothing."""
    return paired_difference([0.0] * len(scores), scores, confidence=confidence, seed=seed)
