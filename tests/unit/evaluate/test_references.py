"""What a row's right answers are, by the task; and models that list labels, which are measured by sets."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tiny_models import tiny_model, tiny_tokenizer
from tunesmith.data.task_file import TaskRecord
from tunesmith.data.templates import Template
from tunesmith.errors import UsageError
from tunesmith.evaluate.evaluation import evaluate
from tunesmith.evaluate.references import right_labels, right_texts
from tunesmith.runtime.protocol import Answer
from tunesmith.runtime.torch_runtime import TorchRuntime

TEMPLATE = Template(kind="text", text="{text}\n{answer}", answer_column="answer", stop_tokens=("<|im_end|>",))
EXTRACTION, TEXT = TaskRecord("extraction"), TaskRecord()
SEVERAL = TaskRecord("text-classification", labels=("a", "b", "c"), multi_label=True, label_column="answer")


@pytest.mark.parametrize(
    ("cell", "one", "several"),
    [
        ([{"slot": "x"}, {"slot": "y"}], ['[{"slot": "x"}, {"slot": "y"}]'], ['{"slot": "x"}', '{"slot": "y"}']),
        ({"a": 1, "b": None}, ['{"a": 1}'], ['{"a": 1, "b": null}']),
        ([], ["[]"], []),
        ('{"a": 1}', ['{"a": 1}'], ['{"a": 1}']),
        (None, [], []),
    ],
)
def test_a_list_is_one_answer_of_an_extraction_and_several_of_others(cell: Any, one: list[str], several: list[str]) -> None:
    """A test file has what the training file had, and training learnt the whole list."""
    assert right_texts(EXTRACTION, TEMPLATE, {"text": "t", "answer": cell}) == one
    assert right_texts(EXTRACTION, TEMPLATE, {"text": "t", "gold": cell}, "gold") == one
    assert right_texts(TEXT, TEMPLATE, {"text": "t", "answer": cell}) == several


def test_labels_of_a_cell_and_of_a_written_list() -> None:
    assert right_labels(SEVERAL, '["a", "c"]') == right_labels(SEVERAL, ["a", "c"]) == ["a", "c"]
    assert right_labels(TaskRecord("text-classification"), '["a"]') == ['["a"]']


class Scripted(TorchRuntime):
    """Answers are the texts in the column ``says``, unless the model is asked itself."""

    def generate(self, prompts: Sequence[Any], **settings: Any) -> list[Answer]:
        if "says" not in prompts[0]:
            return super().generate(prompts, **settings)
        return [Answer(row["says"], True, 3) for row in prompts]


def scripted() -> Scripted:
    return Scripted(tiny_model("llama"), tiny_tokenizer(), TEMPLATE, SEVERAL)


def test_lists_of_labels_are_measured_as_sets() -> None:
    rows = [
        {"text": "1", "answer": ["b", "a"], "says": '["a", "b"]'},
        {"text": "2", "answer": ["a"], "says": '["a", "c"]'},
        {"text": "3", "answer": '["c"]', "says": "[]"},
        {"text": "4", "answer": ["c"], "says": '["c", "b'},
        {"text": "5", "answer": [], "says": "[]"},
        {"text": "6", "answer": "[]", "says": '["a"]'},
        {"text": "7", "answer": None, "says": "[]"},
    ]
    found = evaluate(scripted(), rows, metrics=["accuracy", "f1", "perplexity"])
    assert found.rows["accuracy"] == [1.0, 0.0, 0.0, 0.0, 1.0, 0.0], "no label is an answer, no list is none"
    assert found.words[0] == "1 rows have no right answer and were left out."
    assert found.metrics["f1[a]"] == pytest.approx(4 / 5)
    assert found.metrics["f1[b]"] == 1.0
    assert found.metrics["f1[c]"] == 0.0
    assert found.metrics["perplexity"] > 1


def test_an_unknown_label_cannot_be_an_answer(tmp_path: Path) -> None:
    rows = [{"text": f"row {number}", "answer": ["a"]} for number in range(8)]
    evaluate(scripted(), rows, predictions_file=tmp_path / "p.jsonl")
    evaluate(scripted(), rows, predictions_file=tmp_path / "free.jsonl", constrain=False, max_new_tokens=9)
    held, free = ([json.loads(line)["output"] for line in (tmp_path / name).read_text().splitlines()] for name in ("p.jsonl", "free.jsonl"))
    assert all(set(filter(None, text.split(", "))) <= {"a", "b", "c"} for text in held)
    assert not all(set(filter(None, text.split(", "))) <= {"a", "b", "c"} for text in free)


def test_what_has_no_effect_on_lists_of_labels_is_refused() -> None:
    with pytest.raises(UsageError, match="--labels has no effect on a model that was trained to list labels"):
        evaluate(scripted(), [{"text": "1", "answer": ["a"]}], labels=["a"])
    with pytest.raises(UsageError, match="lists any number of its labels"):
        scripted().choose(["x"])
