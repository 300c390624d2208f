"""Which recipe is taken: the Pareto front, budgets and ties, on numbers that are chosen."""

from __future__ import annotations

import math

from tunesmith.export.recipes.blocks import BlockFormat
from tunesmith.export.recipes.recipe import WeightRecipe
from tunesmith.export.search.choice import Limits, Quality, nearest_words, pareto_front, ranked
from tunesmith.export.search.records import Trial
from tunesmith.export.stages import StageScores

EXACT = Quality("exact_match", greater_is_better=True, reference=0.9, allowed=0.01)
PERPLEXITY = Quality("perplexity", greater_is_better=False, reference=10.0, allowed=0.03)
FORMATS = [BlockFormat(4, size, symmetric) for size in (16, 32, 64, 128, 256) for symmetric in (True, False)]


def trial(number: int, size_mb: float, metric: float, *, kl: float = 0.1, lost: str = "", token_ms: float | None = None) -> Trial:
    scores = StageScores("quantized", "quantized", kl=kl, metrics={"exact_match": metric}, perplexity=metric)
    recipe = WeightRecipe("rtn", FORMATS[number])
    return Trial(recipe, round(size_mb * 1e6), scores, failures=(lost,) if lost else (), token_ms=token_ms)


SMALL, GOOD, BEST, LARGE = (
    trial(0, 70, 0.70, lost="quantized: much"),
    trial(1, 80, 0.90),
    trial(2, 90, 0.91),
    trial(3, 100, 0.905),
)
ALL = [LARGE, BEST, GOOD, SMALL]


def test_the_smallest_that_loses_nothing() -> None:
    assert ranked(ALL, EXACT, Limits()) == [GOOD, BEST, LARGE]


def test_the_best_within_a_size() -> None:
    assert ranked(ALL, EXACT, Limits(max_bytes=95e6, best=True)) == [BEST, GOOD]
    assert ranked(ALL, EXACT, Limits(max_bytes=75e6, best=True)) == []
    assert ranked(ALL, EXACT, Limits(max_bytes=75e6, best=True), lossy=True) == [SMALL]


def test_what_is_too_slow_is_not_taken_and_what_was_not_measured_stays() -> None:
    slow, fast = trial(4, 60, 0.9, token_ms=20.0), trial(5, 85, 0.9, token_ms=9.0)
    assert ranked([slow, fast, GOOD], EXACT, Limits(max_token_ms=10.0)) == [GOOD, fast]


def test_ties_go_to_the_nearer_one_then_to_the_smaller() -> None:
    near, far, small = trial(4, 80, 0.9, kl=0.01), trial(5, 80, 0.9, kl=0.2), trial(6, 70, 0.9, kl=0.2)
    assert ranked([far, near], EXACT, Limits()) == [near, far]
    assert ranked([far, small, near], EXACT, Limits(best=True)) == [near, small, far]


def test_the_front_is_what_no_other_beats() -> None:
    assert pareto_front(ALL, EXACT) == [SMALL, GOOD, BEST]
    assert pareto_front([GOOD, trial(4, 80, 0.8), trial(5, 85, 0.90)], EXACT) == [GOOD]  # as good, but larger
    assert pareto_front([trial(4, 10, 12.0), trial(5, 20, 11.0), trial(6, 30, 11.5)], PERPLEXITY) == [
        trial(4, 10, 12.0),
        trial(5, 20, 11.0),
    ]
    assert pareto_front([trial(4, 10, math.inf)], PERPLEXITY) == []
    assert pareto_front([], EXACT) == []


def test_what_is_lost_is_a_part_of_the_tuned_models_figure() -> None:
    assert math.isclose(EXACT.lost(SMALL.scores), 0.2 / 0.9)
    assert math.isclose(PERPLEXITY.lost(trial(0, 1, 11.0).scores), 0.1)
    assert EXACT.failed_badly(SMALL)
    assert not EXACT.failed_badly(GOOD)
    assert not EXACT.failed_badly(trial(4, 70, 0.885, lost="quantized: a little"))
    assert EXACT.words(SMALL.scores) == "70.0%"
    assert PERPLEXITY.words(trial(0, 1, 11.25).scores) == "11.25"


def test_the_nearest_are_named_in_one_line() -> None:
    said = nearest_words([SMALL, GOOD], EXACT, Limits(max_bytes=75e6))
    assert said == (
        "the best within it is int4 rtn, blocks of 16: 70.0 MB, exact answers 70.0%; "
        "the smallest that loses nothing is int4 rtn, blocks of 16, zero points: 80.0 MB, exact answers 90.0%"
    )
    lossy = trial(4, 90, 0.8, lost="quantized: some", token_ms=12.5)
    assert nearest_words([lossy], EXACT, Limits(max_bytes=75e6)) == (
        "the best beyond it is int4 rtn, blocks of 64: 90.0 MB, 12.5 ms a token, exact answers 80.0%"
    )
