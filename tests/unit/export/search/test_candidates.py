"""Which recipes are tried, and in which order."""

from __future__ import annotations

from collections.abc import Sequence

from tunesmith.export.recipes.blocks import BlockFormat
from tunesmith.export.recipes.recipe import METHODS, WeightRecipe
from tunesmith.export.search.candidates import STRENGTH, Candidate, hopeless, mixed_candidates, next_candidate, plain_candidates
from tunesmith.export.search.choice import Limits, Quality
from tunesmith.export.search.records import Trial
from tunesmith.export.stages import StageScores

EXACT = Quality("exact_match", greater_is_better=True, reference=0.9, allowed=0.01)
PARTS = tuple(f"model.layers.{n}.mlp" for n in range(8))


def size_of(recipe: WeightRecipe) -> int:
    bits = recipe.format.bits + 32 / recipe.format.block_size + (0 if recipe.format.symmetric else 4 / recipe.format.block_size)
    return round(1000 * (bits + 0.3 * len(recipe.higher) + (1 if recipe.head == "int8" else 0)))


def tried(candidate: Candidate, metric: float) -> Trial:
    scores = StageScores("quantized", "quantized", metrics={"exact_match": metric})
    return Trial(candidate.recipe, candidate.size_bytes, scores, failures=() if metric >= 0.891 else ("quantized: lost",))


def order(metrics: Sequence[float], limits: Limits, *, all_of_them: bool = False) -> list[Trial]:
    """Try recipes with chosen results until they are used up."""
    pending, trials = plain_candidates(size_of), []
    for metric in metrics:
        candidate = next_candidate(pending, trials, limits, all_of_them=all_of_them)
        assert candidate is not None
        pending.remove(candidate)
        trials.append(tried(candidate, metric))
    return trials


def test_every_method_and_format_that_there_is() -> None:
    recipes = [one.recipe for one in plain_candidates(size_of)]
    assert len({recipe.key() for recipe in recipes}) == len(recipes)
    assert {recipe.method for recipe in recipes} == set(METHODS) == set(STRENGTH)
    assert {recipe.format.block_size for recipe in recipes} == {32, 64, 128}
    assert {recipe.head for recipe in recipes} == {"same", "int8"}
    assert {recipe.format.bits for recipe in recipes} == {4, 8}
    assert {one.recipe.format.block_size for one in plain_candidates(size_of, 16)} == {16}


def test_sensitive_parts_are_kept_in_steps() -> None:
    recipes = [one.recipe for one in mixed_candidates(size_of, PARTS, 32)]
    assert {recipe.higher for recipe in recipes} == {PARTS[:1], PARTS[:2], PARTS[:4]}
    assert mixed_candidates(size_of, [], 32) == []


def test_from_the_smallest_upwards_until_one_keeps_the_metric() -> None:
    sizes = [trial.size_bytes for trial in order([0.5] * 4, Limits())]
    assert sizes == sorted(sizes)
    assert sizes[0] == min(one.size_bytes for one in plain_candidates(size_of) if one.first)


def test_a_larger_budget_looks_for_smaller_ones_first_and_then_for_larger() -> None:
    trials = order([0.5, 0.5, 0.5, 0.9, 0.5, 0.5], Limits(), all_of_them=True)
    kept = trials[3].size_bytes
    below = [one.size_bytes for one in plain_candidates(size_of) if one.size_bytes < kept]
    if len(below) >= 5:
        assert trials[4].size_bytes == max(size for size in below if size not in {trial.size_bytes for trial in trials[:3]})
    used = {trial.recipe.key() for trial in trials}
    smaller = [one for one in plain_candidates(size_of) if one.recipe.key() not in used and one.size_bytes < kept]
    assert all(trial.size_bytes < kept for trial in trials[4:]) or not smaller


def test_within_a_size_from_the_largest_downwards() -> None:
    trials = order([0.5] * 3, Limits(max_bytes=5000, best=True))
    sizes = [trial.size_bytes for trial in trials]
    assert sizes == sorted(sizes, reverse=True)
    assert max(sizes) <= 5000
    assert next_candidate(plain_candidates(size_of), [], Limits(max_bytes=10), all_of_them=True) is None


def test_what_a_better_method_failed_badly_is_not_tried() -> None:
    block_format = BlockFormat(4, 32, symmetric=False)
    better, plain = (
        Candidate(recipe, size_of(recipe)) for recipe in (WeightRecipe("gptq", block_format), WeightRecipe("rtn", block_format))
    )
    assert hopeless(plain, [tried(better, 0.5)], EXACT) is not None
    assert hopeless(plain, [tried(better, 0.89)], EXACT) is None  # it lost, but little
    assert hopeless(better, [tried(plain, 0.5)], EXACT) is None
    larger = WeightRecipe("rtn", BlockFormat(8, 32, symmetric=True))
    assert hopeless(Candidate(larger, size_of(larger)), [tried(better, 0.5)], EXACT) is None
