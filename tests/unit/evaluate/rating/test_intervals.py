"""Intervals against published figures."""

from __future__ import annotations

import pytest

from tunesmith.evaluate.rating.intervals import mean_interval, wilson_interval


@pytest.mark.parametrize(
    ("successes", "num", "low", "high"),
    # Newcombe (1998), Two-sided confidence intervals for the single proportion, Statistics in Medicine 17, table I, method 3
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_published(successes: int, num: int, low: float, high: float) -> None:
    assert wilson_interval(successes / num, num) == pytest.approx((low, high), abs=5e-5)


def test_wilson_is_symmetric_and_inside() -> None:
    low, high = wilson_interval(1.0, 3)
    assert high == 1.0
    assert 0 < low < 1, "three wins of three are no certainty"
    assert wilson_interval(0.0, 3) == pytest.approx((1 - high, 1 - low))


def test_mean_by_student() -> None:
    # t(0.975, 4) = 2.776 from any table; s of 1..5 is sqrt(2.5)
    assert mean_interval([1, 2, 3, 4, 5]) == pytest.approx((3 - 2.776 * (0.5**0.5), 3 + 2.776 * (0.5**0.5)), abs=1e-3)
    assert mean_interval([4]) is None
