"""Splits with slices."""

from __future__ import annotations

import pytest
from datasets import Dataset

from tunesmith.data.slices import Slice, parse_split, take_slices
from tunesmith.errors import DataError, UsageError

SPLITS = {"train": Dataset.from_dict({"n": range(10)}), "test": Dataset.from_dict({"n": range(100, 104)})}


def taken(text: str) -> list[int]:
    rows, _ = take_slices(parse_split(text, option="--train_split"), SPLITS, text=text, origin="data")
    return list(rows["n"])


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("train", list(range(10))),
        ("train[:3]", [0, 1, 2]),
        ("train[3:5]", [3, 4]),
        ("train[-2:]", [8, 9]),
        ("train[:-8]", [0, 1]),
        ("train[:400]", list(range(10))),
        ("train[80%:]", [8, 9]),
        ("train[:25%]", [0, 1]),
        ("train[-10%:]", [9]),
        (" train [ 2 : 4 ] ", [2, 3]),
        ("train[:1]+test[1:3]+train[9:]", [0, 101, 102, 9]),
        ("train[:0]+test[:1]", [100]),
    ],
)
def test_slices(text: str, rows: list[int]) -> None:
    assert taken(text) == rows


def test_both_sides_of_a_percentage_share_no_row() -> None:
    for percent in range(101):
        assert [*Slice("train", None, f"{percent}%").rows(10), *Slice("train", f"{percent}%").rows(10)] == list(range(10))


@pytest.mark.parametrize("text", ["train[a:]", "train[:200%]", "train[1]", "train[1:2", "[:3]", "", "train[::2]", "train[:3]+"])
def test_what_is_no_slice(text: str) -> None:
    with pytest.raises(UsageError, match=r"is no split with a slice. Write a split and rows or percents, e.g. train\[:4096\]"):
        parse_split(text, option="--train_split")


def test_empty_slices_and_unknown_splits() -> None:
    with pytest.raises(DataError, match=r"data: the slice 'train\[30:\]' holds no row: 'train' has 10 rows"):
        taken("train[30:]")
    with pytest.raises(DataError, match=r"no split 'tran'; there is: train, test. Did you mean 'train'\?"):
        taken("tran[:3]")
