"""Micro-batches hold every row once, within the token budget, and are cut where padding and passes cost least."""

from __future__ import annotations

import itertools
import random

import pytest

from tunesmith.train.fast.microbatch import cut_by_length, micro_batches

DRAW = random.Random(3)
LENGTHS = [DRAW.randint(1, 90) for _ in range(150)]


@pytest.mark.parametrize("max_tokens", [50, 400, 100_000])
def test_every_row_once_and_within_the_budget(max_tokens: int) -> None:
    groups = micro_batches(LENGTHS, max_tokens=max_tokens)
    assert sorted(index for group in groups for index in group) == list(range(len(LENGTHS)))
    for group in groups:
        longest = max(LENGTHS[index] for index in group)
        assert longest * len(group) <= max_tokens or len(group) == 1


def test_the_longest_rows_come_first() -> None:
    longest = [max(LENGTHS[index] for index in group) for group in micro_batches(LENGTHS, max_tokens=400)]
    assert longest == sorted(longest, reverse=True)
    assert longest[0] == max(LENGTHS)


def test_no_cut_is_cheaper() -> None:
    lengths = sorted((DRAW.randint(1, 60) for _ in range(10)), reverse=True)

    def price(edges: tuple[int, ...]) -> int:
        return sum(lengths[start] * (end - start) + 25 for start, end in itertools.pairwise(edges))

    every = [
        price((0, *edges, 10))
        for count in range(10)
        for edges in itertools.combinations(range(1, 10), count)
        if all(lengths[start] * (end - start) <= 150 or end - start == 1 for start, end in itertools.pairwise((0, *edges, 10)))
    ]
    found = cut_by_length(lengths, overhead_tokens=25, max_tokens=150)
    assert price((0, *(end for _, end in found))) == min(every)


def test_rows_of_one_length_stay_together_and_unlike_ones_do_not() -> None:
    assert sorted(map(sorted, micro_batches([10] * 6 + [500, 490], max_tokens=10_000, overhead_tokens=100))) == [[0, 1, 2, 3, 4, 5], [6, 7]]
