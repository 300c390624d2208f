"""Holding rows out: how many, with which labels, never one text on both sides."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from datasets import Dataset

from tunesmith.data.provenance import add_provenance, place_of
from tunesmith.data.splits import column_hashes, hold_out, is_label
from tunesmith.errors import UsageError


def labelled(count: int, labels: str = "aaaaaaabbc") -> Dataset:
    rows = [{"text": f"text {number}", "label": labels[number % len(labels)]} for number in range(count)]
    return add_provenance(Dataset.from_list(rows), "rows.jsonl", all_names=["rows.jsonl"])


def sides(data: Dataset, **options: Any) -> tuple[Dataset, Dataset]:
    train, validation = hold_out(data, **options)
    assert validation is not None
    return train, validation


@pytest.mark.parametrize(
    ("rows", "options", "held"),
    [
        (1000, {}, 100),
        (1000, {"fraction": 0.2}, 200),
        (1000, {"maximum": 30}, 30),
        (15, {"minimum": 4}, 4),
        (5, {}, 1),
        (2, {}, 1),
        (3, {"minimum": 10}, 2),
    ],
)
def test_how_many_rows_are_held_out(rows: int, options: dict[str, Any], held: int) -> None:
    train, validation = sides(labelled(rows), **options)
    assert (len(train), len(validation)) == (rows - held, held)


def test_each_row_is_on_one_side_and_in_file_order() -> None:
    train, validation = sides(labelled(100))
    places = [[place_of(side, index)[1] for index in range(len(side))] for side in (train, validation)]
    assert places == [sorted(places[0]), sorted(places[1])]
    assert sorted(places[0] + places[1]) == list(range(1, 101))


def test_the_seed_decides() -> None:
    first, again, other = (list(sides(labelled(200), seed=seed)[1]["text"]) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_labels_keep_their_shares() -> None:
    _, validation = sides(labelled(2000), label_column="label")
    assert Counter(validation["label"]) == {"a": 140, "b": 40, "c": 20}


def test_a_label_seen_once_is_learnt() -> None:
    rows = [{"text": f"text {number}", "label": "a"} for number in range(30)]
    rows += [{"text": f"rare {number}", "label": f"rare {number}"} for number in range(30)]
    _, validation = sides(Dataset.from_list(rows), label_column="label")
    assert set(validation["label"]) == {"a"}


def test_one_text_is_on_one_side_only() -> None:
    rows = [{"mr": f"meaning {number % 50}", "ref": f"sentence {number}"} for number in range(400)]
    train, validation = sides(Dataset.from_list(rows), text_columns=["mr"])
    assert not set(train["mr"]) & set(validation["mr"])
    assert 30 <= len(validation) <= 40


def test_without_text_columns_the_label_makes_no_difference_between_duplicates() -> None:
    rows = [{"text": f"text {number % 20}", "label": "ab"[number % 2]} for number in range(200)]
    train, validation = sides(Dataset.from_list(rows), label_column="label")
    assert not set(train["text"]) & set(validation["text"])


def test_rows_that_share_a_fixed_prompt_are_no_duplicates() -> None:
    rows = [{"prompt": "Tell a joke", "completion": f"joke {number}"} for number in range(50)]
    assert len(sides(Dataset.from_list(rows), text_columns=["prompt"])[1]) == 5


@pytest.mark.parametrize("rows", [[{"text": "a", "label": "b"}], [{"text": "a", "label": "b"}] * 5], ids=["one row", "one and the same"])
def test_nothing_that_can_be_held_out(rows: list[dict[str, str]]) -> None:
    train, validation = hold_out(Dataset.from_list(rows))
    assert (len(train), validation) == (len(rows), None)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 20])
def test_a_fraction_that_is_none(fraction: float) -> None:
    with pytest.raises(UsageError, match="is no share of the rows"):
        hold_out(labelled(10), fraction=fraction)


def test_hashes_tell_values_and_columns_apart() -> None:
    data = Dataset.from_list([{"a": "x", "b": "y"}, {"a": "xy", "b": ""}, {"a": "x", "b": "y"}, {"a": None, "b": "y"}])
    hashes = column_hashes(data, ["a", "b"]).tolist()
    assert hashes[0] == hashes[2]
    assert len(set(hashes)) == 3


def test_labels_are_told_from_free_text() -> None:
    data = labelled(100)
    assert is_label(data, "label")
    assert not is_label(data, "text")
