"""Which task a run is for, what stands in task.json, and which rows are kept for judging."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from tunesmith.config.finetune import FinetuneOptions
from tunesmith.config.resolve import resolve
from tunesmith.data.provenance import add_provenance
from tunesmith.data.sources import Splits
from tunesmith.data.templates import Template
from tunesmith.errors import UsageError
from tunesmith.train.held_out import held_out_rows, write_held_out
from tunesmith.train.task_choice import check_task_options, sort_labels, text_task

CLASSIFICATION = Template(kind="text", text="{text}\n{label}", task="text-classification", answer_column="label")


def rows(labels: list[Any]) -> Dataset:
    return Dataset.from_list([{"text": f"row {number}", "label": label} for number, label in enumerate(labels)])


def check(**given: Any) -> None:
    resolved = resolve(FinetuneOptions, [("flag", given)])
    check_task_options(resolved.options, resolved.explicit)


def test_labels_are_those_of_the_training_rows_in_order() -> None:
    record = text_task(None, CLASSIFICATION, rows(["b", "a", "b", "", None, "c"]))
    assert (record.name, record.labels, record.label_column, record.head) == ("text-classification", ("a", "b", "c"), "label", False)
    assert sort_labels({"10", "9", "-1"}) == ("-1", "9", "10")
    assert sort_labels({"10", "9", "x"}) == ("10", "9", "x")


def test_answers_that_never_repeat_are_no_labels_unless_somebody_says_so() -> None:
    assert text_task(None, CLASSIFICATION, rows(["a", "b", "c"])).name == "text-generation"
    assert text_task("text-classification", CLASSIFICATION, rows(["a", "b", "c"])).labels == ("a", "b", "c")


def test_a_named_task_wins_over_the_rows() -> None:
    assert text_task("summarization", CLASSIFICATION, rows(["a", "a"])).name == "summarization"


def test_an_unknown_task_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(UsageError, match="Did you mean 'text-classification'"):
        check(task="text-clasification")
    check(task="summarization")


def test_test_rows_are_held_out_where_they_have_answers() -> None:
    validation, test, unlabelled = rows(["a", "b"]), rows(["c", "d", "e"]), rows([None, None])
    assert held_out_rows(Splits(validation, None, test, "x"), validation, CLASSIFICATION) is test
    assert held_out_rows(Splits(validation, None, unlabelled, "x"), validation, CLASSIFICATION) is validation
    assert held_out_rows(Splits(validation, None, None, "x"), None, CLASSIFICATION) is None
    many = rows(["a"] * 2500)
    kept = held_out_rows(Splits(validation, None, many, "x"), None, CLASSIFICATION)
    assert kept is not None
    assert len(kept) == 2000
    assert len(set(kept["text"])) == 2000
    assert kept[1999]["text"] == "row 2498"


def test_held_out_rows_have_the_columns_of_the_data(tmp_path: Path) -> None:
    write_held_out(tmp_path, add_provenance(rows(["ä", "b"]), "x.jsonl", all_names=["x.jsonl"]))
    written = [json.loads(line) for line in (tmp_path / "held_out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert written == [{"text": "row 0", "label": "ä"}, {"text": "row 1", "label": "b"}]
    write_held_out(tmp_path / "nowhere", None)
