"""Which recipes are worth trying, and in which order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

from tunesmith.export.recipes.blocks import BlockFormat, BlockSize
from tunesmith.export.recipes.recipe import Head, Method, WeightRecipe
from tunesmith.export.search.choice import Limits, Quality
from tunesmith.export.search.records import Trial

#: From the best to the plainest: each is at least as good as those behind it as a rule. Scaling before GPTQ wins little on it, if anything,
#: for more of the time, so it comes behind; where GPTQ alone fails badly it won't do either.
STRENGTH: tuple[Method, ...] = ("gptq", "awq+gptq", "awq", "k_quant", "rtn", "hqq")
#: Tried at every size without being asked for more.
_BEST = STRENGTH[:2]
#: Those that have zero points only.
_WITH_ZERO_POINTS = frozenset({"hqq", "k_quant"})
#: Those that look at what layers take in.
CALIBRATED = frozenset({"gptq", "awq", "awq+gptq"})
BLOCK_SIZES: tuple[BlockSize, ...] = (128, 64, 32)
#: Parts of the most sensitive layers that are kept at 8 bits.
SHARES = (0.125, 0.25, 0.5)
#: Two recipes are of one size when they differ by no more.
_SAME_SIZE = 1.005


@dataclass(frozen=True)
class Candidate:
    """A recipe to try.

    Attributes:
        recipe: how the weights are rounded.
        size_bytes: what its files will take.
        first: whether it is tried without being asked for many trials; the others fill a larger budget.
    """

    recipe: WeightRecipe
    size_bytes: int
    first: bool = True

    @property
    def weakness(self) -> int:
        """Place of its method, the best first."""
        return STRENGTH.index(self.recipe.method)


def plain_candidates(size_of: Callable[[WeightRecipe], int], block_size: int | None = None) -> list[Candidate]:
    """Return recipes that treat all layers alike, but for the output layer.

    Args:
        size_of: bytes that a recipe's files will take.
        block_size: the only one, where it is named.
    """
    found = []
    for size in _sizes(block_size):
        for head in cast("tuple[Head, ...]", ("same", "int8")):
            for method in STRENGTH:
                for symmetric in (False, True):
                    if symmetric and method in _WITH_ZERO_POINTS:
                        continue
                    recipe = WeightRecipe(method, BlockFormat(4, size, symmetric), head=head)
                    first = (not symmetric and method in _BEST) or _is_usual(recipe)
                    found.append(Candidate(recipe, size_of(recipe), first))
        eight = WeightRecipe("rtn", BlockFormat(8, size, symmetric=True))
        found.append(Candidate(eight, size_of(eight), size == _sizes(block_size)[0]))
    return found


def mixed_candidates(size_of: Callable[[WeightRecipe], int], sensitive: Sequence[str], block_size: int | None = None) -> list[Candidate]:
    """Return recipes that keep the most sensitive parts at 8 bits.

    Args:
        sensitive: names of parts, the most sensitive first.
    """
    counts = dict.fromkeys(max(1, round(share * len(sensitive))) for share in SHARES) if sensitive else {}
    found = []
    for size in _sizes(block_size):
        for count in counts:
            for number, method in enumerate(_BEST):
                recipe = WeightRecipe(method, BlockFormat(4, size, symmetric=False), higher=tuple(sensitive[:count]), head="int8")
                found.append(Candidate(recipe, size_of(recipe), number == 0 and size == _sizes(block_size)[-1]))
    return found


def next_candidate(pending: Sequence[Candidate], trials: Sequence[Trial], limits: Limits, *, all_of_them: bool) -> Candidate | None:
    """Return what to try next; None when nothing is left that could be of use.

    From the smallest upwards until something keeps the metric; then, in a larger budget, those that would be smaller still, the nearest
    first, and last the larger ones, for the picture. With ``limits.best`` from the largest that is allowed downwards.

    Args:
        all_of_them: also those that are not of the first choice.
    """
    allowed = [one for one in pending if one.size_bytes <= limits.max_bytes and (one.first or all_of_them)]
    if not allowed:
        return None
    kept = [trial.size_bytes for trial in trials if trial.keeps and limits.fits(trial)]
    if limits.best:
        return min(allowed, key=lambda one: (not one.first, -one.size_bytes, one.weakness))
    if not kept:
        return min(allowed, key=lambda one: (not one.first, one.size_bytes, one.weakness))
    smaller = [one for one in allowed if one.size_bytes < min(kept)]
    if smaller:
        return max(smaller, key=lambda one: (one.size_bytes, -one.weakness))
    return min(allowed, key=lambda one: (not one.first, one.size_bytes, one.weakness))


def hopeless(one: Candidate, trials: Sequence[Trial], quality: Quality) -> Trial | None:
    """Return the trial that a candidate can't beat: the same in a better method (or larger, too), which failed badly."""
    for trial in trials:
        better = STRENGTH.index(trial.recipe.method) < one.weakness and one.size_bytes <= _SAME_SIZE * trial.size_bytes
        alike = (trial.recipe.head, trial.recipe.higher) == (one.recipe.head, one.recipe.higher)
        if better and alike and trial.recipe.format.bits == one.recipe.format.bits and quality.failed_badly(trial):
            return trial
    return None


def _is_usual(recipe: WeightRecipe) -> bool:
    """What every other tool ships: the point of comparison."""
    return recipe.method == "rtn" and recipe.format.symmetric and recipe.format.block_size == 32 and recipe.head == "same"


def _sizes(block_size: int | None) -> tuple[BlockSize, ...]:
    return BLOCK_SIZES if block_size is None else (cast("BlockSize", block_size),)
