"""Batches of like length under a budget of tokens."""

from __future__ import annotations

import random

import pytest

from tunesmith.errors import UsageError
from tunesmith.runtime.batches import MOST_ROWS, TOKEN_BUDGET, plan_batches

LENGTHS = [random.Random(0).randint(1, 900) for _ in range(500)]


def test_every_prompt_is_in_one_batch_longest_first() -> None:
    batches = plan_batches(LENGTHS, max_new_tokens=100)
    assert sorted(index for batch in batches for index in batch) == list(range(500))
    flat = [LENGTHS[index] for batch in batches for index in batch]
    assert flat == sorted(flat, reverse=True)


def test_a_batch_stays_within_the_budget() -> None:
    batches = plan_batches(LENGTHS, max_new_tokens=8)
    assert all(len(batch) * (max(LENGTHS[index] for index in batch) + 8) <= TOKEN_BUDGET for batch in batches)
    assert max(map(len, batches)) > 8


def test_a_batch_has_no_more_rows_than_help() -> None:
    assert [len(batch) for batch in plan_batches([5] * 150, max_new_tokens=8)] == [MOST_ROWS, MOST_ROWS, 150 - 2 * MOST_ROWS]


def test_a_prompt_beyond_the_budget_goes_alone() -> None:
    assert plan_batches([TOKEN_BUDGET * 2, 5], max_new_tokens=10) == [[0], [1]]


def test_a_given_batch_size_is_kept_to() -> None:
    assert [len(batch) for batch in plan_batches(LENGTHS, max_new_tokens=100, batch_size=120)] == [120, 120, 120, 120, 20]
    with pytest.raises(UsageError, match="batch_size is 0"):
        plan_batches(LENGTHS, max_new_tokens=100, batch_size=0)
