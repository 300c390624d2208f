"""Several labels a row as text: each list is written in one way, and read back as it was."""

from __future__ import annotations

import pytest
from datasets import Dataset

from tunesmith.data.label_lists import has_label_lists, known_labels, read_labels, with_label_lists, write_labels


def rows(labels: list[list[str] | None]) -> Dataset:
    return Dataset.from_list([{"text": f"row {number}", "label": label} for number, label in enumerate(labels)])


def test_lists_are_written_in_the_order_of_the_labels_each_once() -> None:
    data = rows([["b", "a"], ["c"], [], None, ["a", "a", "new"]])
    assert has_label_lists(data, "label")
    labels = known_labels([["b", "a"], ["c"], None, "a"])
    assert labels == ("a", "b", "c")
    assert with_label_lists(data, "label", labels)["label"] == ['["a", "b"]', '["c"]', "[]", "[]", '["a", "new"]']
    assert with_label_lists(data, "label", ["c", "b", "a"])["label"][0] == '["b", "a"]'


def test_one_label_a_row_is_no_list_of_labels() -> None:
    assert not has_label_lists(rows([["a"], ["b"], []]), "label")
    assert not has_label_lists(Dataset.from_list([{"label": "a"}]), "label")
    assert not has_label_lists(rows([["a", "b"]]), "other")
    assert not has_label_lists(rows([["a", "b"]]), None)


@pytest.mark.parametrize("labels", [[], ["a"], ["a, b", 'with "quotes"', "größer"]])
def test_what_is_written_is_read_back(labels: list[str]) -> None:
    assert read_labels(write_labels(labels)) == labels
    assert read_labels(labels) == labels


@pytest.mark.parametrize(
    ("text", "labels"), [("a", ["a"]), ('["a", "b', ['["a", "b']), ("1", ["1"]), ("", []), ("[" * 100_000, ["[" * 100_000])]
)
def test_text_that_is_no_list_is_one_label(text: str, labels: list[str]) -> None:
    assert read_labels(text) == labels
