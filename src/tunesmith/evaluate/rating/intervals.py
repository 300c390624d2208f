"""95% intervals of a share and of a mean over prompts."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

Interval = tuple[float, float]

#: The 97.5th percentile of the standard normal distribution.
Z = 1.959963984540054


def wilson_interval(rate: float, num: int) -> Interval:
    """Return Wilson's score interval of a share, ``(p + z²/2n ± z sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n)``.

    It stays inside 0 … 1 and is honest for few trials and for shares near the ends. Where trials count half (ties), their spread is
    smaller than that of whole ones, so that the interval is rather too wide than too narrow.
    Source: Wilson (1927), JASA 22; recommended for small n by Brown, Cai & DasGupta (2001), Statistical Science 16.

    Args:
        rate: the share, 0 to 1.
        num: independent trials, at least 1.
    """
    middle = rate + Z * Z / (2 * num)
    half = Z * math.sqrt(rate * (1 - rate) / num + Z * Z / (4 * num * num))
    whole = 1 + Z * Z / num
    return max(0.0, (middle - half) / whole), min(1.0, (middle + half) / whole)


def mean_interval(values: Sequence[float]) -> Interval | None:
    """Return the interval of a mean by Student's t, ``m ± t(n-1) s / sqrt(n)``; None for fewer than two values.

    Args:
        values: one for each prompt, so that several raters of one prompt don't pass for independent trials.
    """
    if len(values) < 2:
        return None
    from scipy.stats import t

    half = float(t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))
    middle = statistics.fmean(values)
    return middle - half, middle + half
