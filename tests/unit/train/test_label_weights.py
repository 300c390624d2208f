"""Weights of labels that are learnt as text: which row gets which, and where there are none to give."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from tiny_models import tiny_tokenizer
from tunesmith.config.finetune import FinetuneOptions
from tunesmith.config.resolve import resolve
from tunesmith.data.prepare import prepare
from tunesmith.data.task_file import TaskRecord
from tunesmith.data.templates import Template
from tunesmith.errors import UsageError
from tunesmith.train.label_weights import label_weights, weigh_rows

TEMPLATE = Template(kind="text", text="{text}\\n{label}", task="text-classification", answer_column="label")
RECORD = TaskRecord("text-classification", labels=("a", "b"), label_column="label")
ROWS = Dataset.from_list([{"text": f"row {n}", "label": "a" if n == 2 else "b"} for n in range(4)])


def weights(record: TaskRecord = RECORD, **given: Any) -> dict[str, float] | None:
    return label_weights(resolve(FinetuneOptions, [("flag", given)]).options, record, ROWS)


def test_balanced_is_what_a_head_gets_and_a_file_is_followed(tmp_path: Path) -> None:
    assert weights() is None
    assert weights(class_weights="balanced") == pytest.approx({"a": 2.0, "b": 2 / 3})
    (tmp_path / "weights.json").write_text(json.dumps({"b": 0.5}))
    assert weights(class_weights=str(tmp_path / "weights.json"), loss="focal") == {"a": 1.0, "b": 0.5}


@pytest.mark.parametrize(
    ("record", "given", "words"),
    [
        (TaskRecord("text-generation", label_column="label"), {}, "no effect on the task text-generation: no column holds a label"),
        (TaskRecord("text-classification"), {}, "no column holds a label"),
        (TaskRecord("text-classification", labels=("a",), multi_label=True, label_column="label"), {}, "several labels.*--head"),
        (RECORD, {"loss": "label-smoothing"}, "--class_weights has no effect with --loss label-smoothing"),
        (RECORD, {"loss": "loss.py:Mine"}, "--class_weights has no effect with --loss loss.py:Mine"),
    ],
)
def test_where_no_row_has_one_weight_it_is_said(record: TaskRecord, given: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        weights(record, class_weights="balanced", **given)


def test_each_row_that_is_left_has_the_weight_of_its_label() -> None:
    rows = [{"text": f"row {'word ' * 60 * (n == 1)}", "label": label} for n, label in enumerate(["a", "b", "", "b", "a", "new"])]
    prepared = prepare(Dataset.from_list(rows), TEMPLATE, tiny_tokenizer(), max_seq_len=50, allow_truncation=True, cache=False)
    found = weigh_rows(prepared, "label", {"a": 2.0, "b": 0.5}).dataset
    assert list(found["row"]) == [0, 3, 4, 5]  # one is cut before its label, one has none
    assert list(found["weight"]) == [2.0, 0.5, 2.0, 1.0]
    assert list(found["input_ids"]) == list(prepared.dataset["input_ids"])
