"""Kappas against published examples."""

from __future__ import annotations

import pytest

from tunesmith.evaluate.rating.agreement import agreement, cohen_kappa, counts_of, fleiss_kappa, strength

# Fourteen raters put ten subjects into five categories; kappa 0.210.
# Source: the worked example of https://en.wikipedia.org/wiki/Fleiss%27_kappa (also in the tests of statsmodels).
FLEISS_TABLE = [
    [0, 0, 0, 0, 14],
    [0, 2, 6, 4, 2],
    [0, 0, 3, 5, 6],
    [0, 3, 9, 2, 0],
    [2, 2, 8, 1, 1],
    [7, 7, 0, 0, 0],
    [3, 2, 6, 3, 0],
    [2, 5, 3, 2, 2],
    [6, 5, 2, 1, 0],
    [0, 2, 2, 3, 7],
]


def from_table(table: list[list[int]]) -> tuple[list[int], list[int]]:
    """Two raters' categories, from how often each pair of them occurs."""
    pairs = [(row, column) for row, counts in enumerate(table) for column, count in enumerate(counts) for _ in range(count)]
    return [row for row, _ in pairs], [column for _, column in pairs]


def test_fleiss_published() -> None:
    kappa = fleiss_kappa(FLEISS_TABLE)
    assert kappa == pytest.approx(0.210, abs=5e-4)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([[7, 1], [3, 5]], 0.161905),  # by J. Randolph's online kappa calculator, as in statsmodels' tests
        ([[6, 1, 0], [0, 7, 0]], 0.708333),
        ([[7, 0], [0, 7]], 1.0),
        ([[2, 0], [2, 0]], None),
    ],
)
def test_fleiss_of_small_tables(counts: list[list[int]], expected: float | None) -> None:
    assert fleiss_kappa(counts) == (None if expected is None else pytest.approx(expected, abs=6e-6))


@pytest.mark.parametrize("counts", [[[1, 0]], [[2, 1], [1, 1]], []])
def test_fleiss_needs_the_same_number_of_raters_everywhere(counts: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="same number"):
        fleiss_kappa(counts)


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ([[20, 5], [10, 15]], 0.4),  # https://en.wikipedia.org/wiki/Cohen%27s_kappa
        ([[45, 15], [25, 15]], 0.1304),
        ([[25, 35], [5, 35]], 0.2593),
        ([[0, 4, 1], [0, 8, 0], [0, 1, 5]], 0.4842),  # SAS, PROC FREQ
    ],
)
def test_cohen_published(table: list[list[int]], expected: float) -> None:
    assert cohen_kappa(*from_table(table)) == pytest.approx(expected, abs=5e-5)


def test_ordered_categories_weigh_distance() -> None:
    first, near, far = [1, 2, 3, 4, 5], [2, 2, 3, 4, 5], [5, 2, 3, 4, 5]
    assert cohen_kappa(first, near) == pytest.approx(cohen_kappa(first, far), abs=0.05)
    near_weighted, far_weighted = cohen_kappa(first, near, ordered=True), cohen_kappa(first, far, ordered=True)
    assert near_weighted is not None
    assert far_weighted is not None
    assert near_weighted > far_weighted + 0.3
    # by hand, 1 - (observed squared distance) / (expected one): (4 + 0 + 4) / 3, and 4 · 1/3 · 2/3 twice
    assert cohen_kappa([1, 3, 3], [3, 3, 1], ordered=True) == pytest.approx(1 - (8 / 3) / (16 / 9))


def test_all_the_same_is_undefined() -> None:
    assert cohen_kappa(["a", "a"], ["a", "a"]) is None
    found = agreement({"ada": {1: "a", 2: "a"}, "bob": {1: "a", 2: "a"}})
    assert found is not None
    assert (found.kappa, found.share, found.strength) == (None, 1.0, None)


def test_two_raters_on_what_both_rated() -> None:
    found = agreement({"ada": {1: "a", 2: "b", 3: "a"}, "bob": {2: "b", 3: "a", 4: "a"}})
    assert found is not None
    assert (found.measure, found.kappa, found.share, found.num_units) == ("Cohen's kappa", 1.0, 1.0, 2)
    ordered = agreement({"ada": {1: 1, 2: 5}, "bob": {1: 2, 2: 5}}, ordered=True)
    assert ordered is not None
    assert (ordered.measure, ordered.share) == ("Cohen's kappa, quadratic weights", 0.5)


def test_three_raters() -> None:
    ratings = {"ada": {1: "a", 2: "b"}, "bob": {1: "a", 2: "b"}, "eve": {1: "a", 2: "a"}}
    found = agreement(ratings)
    assert found is not None
    # P = (1 + 1/3) / 2, P_e = (4/6)² + (2/6)²
    assert found.kappa == pytest.approx((2 / 3 - 5 / 9) / (1 - 5 / 9))
    assert (found.measure, found.share) == ("Fleiss' kappa", pytest.approx(4 / 6))


def test_nothing_to_compare() -> None:
    assert agreement({"ada": {1: "a"}}) is None
    assert agreement({"ada": {1: "a"}, "bob": {}}) is None
    assert agreement({"ada": {1: "a"}, "bob": {2: "a"}}) is None


def test_words_and_counts() -> None:
    assert [strength(kappa) for kappa in (0.9, 0.7, 0.5, 0.3, 0.1, 0.0, -0.2)] == [
        "almost perfect",
        "substantial",
        "moderate",
        "fair",
        "slight",
        "no better than chance",
        "no better than chance",
    ]
    assert counts_of([["a", "b"], ["a", "a"], ["b", "a"]]) == [[2, 1], [2, 1]]
