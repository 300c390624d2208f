"""The interval covers what it says, shifts with the data, and never shows what too few rows can't show."""

from __future__ import annotations

import numpy as np
import pytest

from tunesmith.errors import ShapeError, UsageError
from tunesmith.evaluate.bootstrap import Difference, mean_interval, paired_difference


def scores(share_base: float, share_tuned: float, rows: int, seed: int) -> tuple[list[float], list[float]]:
    """Right or wrong on each row, for two models."""
    random = np.random.default_rng(seed)
    return tuple((random.random(rows) < share).astype(float).tolist() for share in (share_base, share_tuned))  # type: ignore[return-value]


def test_the_percentile_interval_is_that_of_the_resampled_means() -> None:
    first, second = scores(0.4, 0.6, 50, 3)
    found = paired_difference(first, second, method="percentile", num_resamples=2000, seed=5)
    differences = np.array(second) - np.array(first)
    means = differences[np.random.default_rng(5).integers(0, 50, size=(2000, 50))].mean(axis=1)
    assert found.low == pytest.approx(np.quantile(means, 0.025))
    assert found.high == pytest.approx(np.quantile(means, 0.975))
    assert found.mean == pytest.approx(differences.mean())
    assert found.num_different == int((differences != 0).sum())


def test_bca_is_scipys() -> None:
    stats = pytest.importorskip("scipy.stats")
    differences = np.random.default_rng(0).exponential(size=40)
    found = paired_difference(np.zeros(40), differences, num_resamples=20_000, method="bca")
    reference = stats.bootstrap((differences,), np.mean, n_resamples=20_000, method="BCa", random_state=np.random.default_rng(1))
    assert found.low == pytest.approx(reference.confidence_interval.low, abs=0.01)
    assert found.high == pytest.approx(reference.confidence_interval.high, abs=0.02)
    plain = paired_difference(np.zeros(40), differences, num_resamples=20_000, method="percentile")
    assert found.high > plain.high + 0.005, "the correction for skewness moves the interval to the right"


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_it_covers_the_true_difference_as_often_as_it_says(method: str) -> None:
    covered = 0
    for seed in range(300):
        found = paired_difference(*scores(0.5, 0.6, 120, seed), num_resamples=600, method=method, seed=seed)  # type: ignore[arg-type]
        covered += found.low <= 0.1 <= found.high
    assert 0.90 <= covered / 300 <= 0.99


def test_no_difference_is_seldom_taken_for_one() -> None:
    found = [paired_difference(*scores(0.5, 0.5, 120, seed), num_resamples=600, seed=seed) for seed in range(300)]
    assert sum(one.is_better for one in found) <= 15
    assert sum(one.is_worse for one in found) <= 15


def test_a_planted_difference_is_found_in_20_of_20() -> None:
    for seed in range(20):
        worse, better = scores(0.3, 0.8, 100, seed)
        assert paired_difference(worse, better, seed=seed).is_better
        assert paired_difference(better, worse, seed=seed).is_worse


def test_the_same_seed_gives_the_same_interval() -> None:
    pair = np.random.default_rng(0).random(60), np.random.default_rng(1).random(60)
    assert paired_difference(*pair, seed=7) == paired_difference(*pair, seed=7)
    assert paired_difference(*pair, seed=7) != paired_difference(*pair, seed=8)


@pytest.mark.parametrize("size", [1.0, 0.5])
def test_so_few_rows_show_nothing_however_clear_they_are(size: float) -> None:
    found = paired_difference([0.0] * 5, [size] * 5)
    assert (found.mean, found.low, found.high) == (size, size, size)
    assert not found.is_better
    assert paired_difference([0.0] * 6, [size] * 6).is_better
    assert not paired_difference([size] * 5, [0.0] * 5).is_worse
    varied = [0.1, 0.2, 0.3, 0.4, 0.5]
    assert not paired_difference([0.0] * 5, varied).is_better
    assert paired_difference([0.0] * 6, [*varied, 0.6]).is_better


def test_the_sign_test_is_scipys_and_has_its_say_where_answers_are_right_or_wrong() -> None:
    stats = pytest.importorskip("scipy.stats")
    seven_to_one = paired_difference([0.0] * 7 + [1.0] + [1.0] * 92, [1.0] * 7 + [0.0] + [1.0] * 92)
    assert seven_to_one.low > 0, "the bootstrap alone would call it a gain"
    assert seven_to_one.chance == pytest.approx(stats.binomtest(1, 8).pvalue)
    assert not seven_to_one.is_better
    assert paired_difference([0.0] * 12 + [1.0] * 38, [1.0] * 12 + [0.0] + [1.0] * 37).is_better


def test_the_sign_test_of_many_rows() -> None:
    stats = pytest.importorskip("scipy.stats")
    for better, worse in ((560, 500), (520, 500), (50_300, 50_000)):
        found = Difference(0.0, 0.0, 0.0, 200_000, better, worse, True)
        assert found.chance == pytest.approx(stats.binomtest(worse, better + worse).pvalue, rel=0.02)


def test_equal_models_differ_nowhere() -> None:
    found = paired_difference([0.2, 0.9, 0.4], [0.2, 0.9, 0.4])
    assert (found.mean, found.low, found.high, found.num_different) == (0.0, 0.0, 0.0, 0)


def test_pairs_count_and_not_the_spread_between_rows() -> None:
    """Rows that differ a lot among themselves, and a small gain on each: seen, since the comparison is in pairs."""
    random = np.random.default_rng(0)
    first = random.normal(size=80) * 10
    assert paired_difference(first, first + 0.1 + random.normal(size=80) * 0.05).is_better
    shuffled = random.permutation(first)
    assert not paired_difference(shuffled, first + 0.1).is_better


def test_means_of_many_rows_are_drawn_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = scores(0.4, 0.6, 70, 2)
    whole = paired_difference(*pair, num_resamples=1000)
    monkeypatch.setattr("tunesmith.evaluate.bootstrap._DRAWS_AT_ONCE", 70 * 128)
    parts = paired_difference(*pair, num_resamples=1000)
    assert (parts.low, parts.high) == (whole.low, whole.high), "the generator goes on where the last part ended"


def test_the_interval_of_one_mean() -> None:
    found = mean_interval([1.0, 0.0] * 50)
    assert found.mean == 0.5
    assert 0.38 < found.low < 0.45 < 0.55 < found.high < 0.62


@pytest.mark.parametrize("pair", [([], []), ([1.0], [1.0, 0.0])])
def test_rows_that_do_not_pair_up(pair: tuple[list[float], list[float]]) -> None:
    with pytest.raises(ShapeError, match="the same rows twice"):
        paired_difference(*pair)


def test_scores_that_are_no_numbers() -> None:
    with pytest.raises(UsageError, match="2 of 3 rows have a score that is not a finite number"):
        paired_difference([0.0, 0.0, 0.0], [1.0, float("nan"), float("inf")])
    with pytest.raises(UsageError, match="no probability"):
        paired_difference([0.0], [1.0], confidence=95)
