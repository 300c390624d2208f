"""How far raters agree beyond chance: Cohen's kappa for two, Fleiss' kappa for more."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

#: Landis & Koch (1977), The measurement of observer agreement for categorical data, Biometrics 33, p. 165: from which kappa on.
STRENGTHS = ((0.8, "almost perfect"), (0.6, "substantial"), (0.4, "moderate"), (0.2, "fair"), (0.0, "slight"))


@dataclass(frozen=True)
class Agreement:
    """How far raters agree.

    Attributes:
        measure: which kappa.
        kappa: 1 is full agreement, 0 what chance gives; None where it is undefined because every rating is the same.
        share: of all pairs of raters and units, how many agree exactly.
        num_units: what all the raters rated.
        raters: who.
        strength: kappa in a word.
    """

    measure: str
    kappa: float | None
    share: float
    num_units: int
    raters: tuple[str, ...]
    strength: str | None


def agreement(ratings: Mapping[str, Mapping[Hashable, Hashable]], *, ordered: bool = False) -> Agreement | None:
    """Return how far raters agree on what all of them rated; None for fewer than two raters or nothing in common.

    Args:
        ratings: rater -> unit -> category.
        ordered: categories are numbers, and a near miss is better than a far one: Cohen's kappa then has quadratic weights. Fleiss'
            kappa knows no order.
    """
    raters = tuple(rater for rater in ratings if ratings[rater])
    if len(raters) < 2:
        return None
    shared = [unit for unit in ratings[raters[0]] if all(unit in ratings[rater] for rater in raters)]
    if not shared:
        return None
    columns = [[ratings[rater][unit] for unit in shared] for rater in raters]
    pairs = [one == other for row in zip(*columns, strict=True) for one, other in itertools.combinations(row, 2)]
    kappa = cohen_kappa(columns[0], columns[1], ordered=ordered) if len(raters) == 2 else fleiss_kappa(counts_of(columns))
    measure = "Fleiss' kappa" if len(raters) > 2 else "Cohen's kappa" + (", quadratic weights" if ordered else "")
    return Agreement(measure, kappa, sum(pairs) / len(pairs), len(shared), raters, None if kappa is None else strength(kappa))


def cohen_kappa(first: Sequence[Hashable], second: Sequence[Hashable], *, ordered: bool = False) -> float | None:
    """Return ``(p_o - p_e) / (1 - p_e)`` of two raters' categories, unit by unit; None where chance agreement is 1.

    Source: Cohen (1960), A coefficient of agreement for nominal scales; computed by scikit-learn.

    Args:
        first, second: categories of the same units.
        ordered: weigh a disagreement by the square of its distance (Cohen 1968); categories are whole numbers then.
    """
    from sklearn.metrics import cohen_kappa_score

    categories: list[Hashable] = list(dict.fromkeys([*first, *second]))
    if len(categories) < 2:
        return None
    if ordered:  # the weights are distances in this list, so it has to have the whole range in order
        numbers = cast("list[int]", categories)
        categories = list(range(min(numbers), max(numbers) + 1))
    places = {category: place for place, category in enumerate(categories)}
    columns = [[places[one] for one in column] for column in (first, second)]
    return float(cohen_kappa_score(*columns, labels=list(places.values()), weights="quadratic" if ordered else None))


def fleiss_kappa(counts: Sequence[Sequence[int]]) -> float | None:
    """Return Fleiss' kappa, ``(P - P_e) / (1 - P_e)``; None where all ratings are in one category.

    With N units, n ratings of each and ``n_ij`` of them of unit i in category j: ``P`` is the mean over units of
    ``(sum_j n_ij² - n) / (n (n - 1))``, ``P_e`` the sum over categories of ``(sum_i n_ij / (N n))²``.
    Source: Fleiss (1971), Measuring nominal scale agreement among many raters, Psychological Bulletin 76, eq. 1-7.

    Args:
        counts: ``(N, categories)``, how many raters put a unit into a category; every row adds up to the same n of at least 2.

    Raises:
        ValueError: when rows add up to different numbers, or to fewer than 2.
    """
    sizes = {sum(row) for row in counts}
    if len(sizes) != 1 or (size := sizes.pop()) < 2:
        raise ValueError("every unit needs the same number of ratings, at least 2")
    observed: float = sum((sum(count * count for count in row) - size) / (size * (size - 1)) for row in counts) / len(counts)
    shares = [sum(column) / (len(counts) * size) for column in zip(*counts, strict=True)]
    if max(shares) == 1:
        return None
    expected: float = sum(share * share for share in shares)
    return (observed - expected) / (1 - expected)


def counts_of(columns: Sequence[Sequence[Hashable]]) -> list[list[int]]:
    """Return how many raters put each unit into each category, from a list of categories by rater."""
    rows = list(zip(*columns, strict=True))
    categories = list(dict.fromkeys(category for row in rows for category in row))
    return [[row.count(category) for category in categories] for row in rows]


def strength(kappa: float) -> str:
    """Return a kappa in the words of Landis & Koch (1977)."""
    return next((word for least, word in STRENGTHS if kappa > least), "no better than chance")
