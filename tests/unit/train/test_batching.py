"""Batches: every row once an epoch, like lengths together, the order decided by seed and epoch alone."""

from __future__ import annotations

import random

import pytest
import torch

from tunesmith.data.tokenize import IGNORE_INDEX
from tunesmith.train.batching import LengthGroupedBatches, collate

_DRAW = random.Random(0)
LENGTHS = [_DRAW.randint(5, 200) for _ in range(1003)]


def batches(*, group: bool = True, epoch: int = 0, seed: int = 1, drop_last: bool = False) -> list[list[int]]:
    sampler = LengthGroupedBatches(LENGTHS, 16, seed=seed, group_by_length=group, drop_last=drop_last)
    sampler.set_epoch(epoch)
    return list(sampler)


@pytest.mark.parametrize("group", [True, False])
def test_every_row_once_an_epoch(group: bool) -> None:
    found = batches(group=group)
    assert sorted(row for batch in found for row in batch) == list(range(len(LENGTHS)))
    assert len(found) == len(LengthGroupedBatches(LENGTHS, 16, seed=1, group_by_length=group)) == 63


def test_drop_last_drops_the_short_batch() -> None:
    assert [len(batch) for batch in batches(group=False, drop_last=True)] == [16] * 62


def test_order_depends_on_seed_and_epoch_not_on_the_global_state() -> None:
    first = batches()
    torch.manual_seed(99)
    assert batches() == first
    assert batches(epoch=1) != first
    assert batches(seed=2) != first


def test_grouping_leaves_hardly_any_padding() -> None:
    def padding(found: list[list[int]]) -> float:
        padded = sum(max(LENGTHS[row] for row in batch) * len(batch) for batch in found)
        return 1 - sum(LENGTHS) / padded

    assert padding(batches()) < 0.08 < 0.4 < padding(batches(group=False))


def test_collate_pads_on_the_right_and_never_learns_padding() -> None:
    batch = collate([{"input_ids": [5, 6, 7], "labels": [-100, 6, 7]}, {"input_ids": [8], "labels": [8]}], pad_token_id=1)
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, 1, 1]]
    assert batch["labels"].tolist() == [[-100, 6, 7], [8, IGNORE_INDEX, IGNORE_INDEX]]
    assert batch["lengths"].tolist() == [3, 1]
