"""Which task a run is for, what stands in task.json, and which rows are kept for judging."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from tunesmith.config.finetune import FinetuneOptions
from tunesmith.config.resolve import resolve
from tunesmith.data.formats import recognize
from tunesmith.data.labels import sort_labels
from tunesmith.data.provenance import add_provenance
from tunesmith.data.sources import Splits
from tunesmith.data.templates import Template
from tunesmith.errors import DataError, UsageError
from tunesmith.tasks.protocol import Columns
from tunesmith.train.generation import Generation
from tunesmith.train.held_out import held_out_rows, write_held_out
from tunesmith.train.rows import written_answers
from tunesmith.train.task_choice import check_task_options, choose_task, columns_of, metrics_of, text_task

CLASSIFICATION = Template(kind="text", text="{text}\n{label}", task="text-classification", answer_column="label")


def rows(labels: list[Any]) -> Dataset:
    return Dataset.from_list([{"text": f"row {number}", "label": label} for number, label in enumerate(labels)])


def options(**given: Any) -> FinetuneOptions:
    return resolve(FinetuneOptions, [("flag", given)]).options


def check(**given: Any) -> None:
    resolved = resolve(FinetuneOptions, [("flag", given)])
    check_task_options(resolved.options, resolved.explicit)


def test_labels_are_those_of_the_training_rows_in_order() -> None:
    record = text_task("text-classification", options(), CLASSIFICATION, rows(["b", "a", "b", "", None, "c"]))
    assert (record.name, record.labels, record.label_column, record.head) == ("text-classification", ("a", "b", "c"), "label", False)
    assert sort_labels({"10", "9", "-1"}) == ("-1", "9", "10")
    assert sort_labels({"10", "9", "x"}) == ("10", "9", "x")


def test_answers_that_never_repeat_are_no_labels_unless_somebody_says_so() -> None:
    assert text_task("text-classification", options(), CLASSIFICATION, rows(["a", "b", "c"])).name == "text-generation"
    assert text_task("text-classification", options(task="text-classification"), CLASSIFICATION, rows(["a", "b", "c"])).labels == (
        "a",
        "b",
        "c",
    )


def test_a_named_task_wins_over_the_rows() -> None:
    assert text_task("summarization", options(), CLASSIFICATION, rows(["a", "a"])).name == "summarization"


def test_lists_of_labels_are_written_and_known() -> None:
    data = rows([["b", "a"], ["c"], []])
    splits, listed = written_answers(Splits(data, None, data, "x"), options(), "text-classification", "label")
    assert listed == ("a", "b", "c")
    assert splits.train["label"] == ['["a", "b"]', '["c"]', "[]"]
    assert splits.test is not None
    assert splits.test["label"] == splits.train["label"]
    record = text_task("text-classification", options(), CLASSIFICATION, splits.train, listed=listed)
    assert (record.labels, record.multi_label, record.head) == (listed, True, False)
    one_each = Splits(rows([["a"], ["b"]]), None, None, "x")
    assert written_answers(one_each, options(), "text-classification", "label") == (one_each, ())
    texts = Splits(rows([[f"text {number}", f"text {number + 1}"] for number in range(1001)]), None, None, "x")
    with pytest.raises(DataError, match=r"lists of 1,002 different texts.*--task text-classification"):
        written_answers(texts, options(), "text-classification", "label")
    assert len(written_answers(texts, options(task="text-classification"), "text-classification", "label")[1]) == 1002


def test_extraction_infers_a_schema_or_reads_one(tmp_path: Path) -> None:
    template = Template(kind="text", text="{text}\n{label}", answer_column="label")
    answers = rows(['{"a": 1}', '{"a": 2, "b": "x"}'])
    inferred = text_task("extraction", options(), template, answers).schema
    assert inferred is not None
    assert inferred["required"] == ["a"]
    (tmp_path / "schema.json").write_text('{"type": "object"}')
    given = options(answer_schema=str(tmp_path / "schema.json"))
    assert text_task("extraction", given, template, answers).schema == {"type": "object"}


def test_training_answers_fit_the_given_schema_or_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    template = Template(kind="text", text="{text}\n{label}", answer_column="label")
    schema = {"type": "object", "properties": {"b": {"type": "string"}, "a": {"type": "integer"}}, "additionalProperties": False}
    (tmp_path / "schema.json").write_text(json.dumps(schema))
    given = options(answer_schema=str(tmp_path / "schema.json"))
    wrong = add_provenance(rows(['{"a": 1}', '{"a": "x"}']), "d.jsonl", all_names=["d.jsonl"])
    with pytest.raises(DataError, match=r"d\.jsonl: row 2: the answer doesn't fit --answer_schema .* at a: 'x' is not of type 'integer'"):
        text_task("extraction", given, template, wrong)
    assert not caplog.text
    text_task("extraction", given, template, rows(['{"b": "y", "a": 1}', '{"a": 2, "b": "x"}', '{"a": 3}']))
    assert "1 of 3 training answers fit" in caplog.text
    assert "fields in another order" in caplog.text


def test_an_unknown_task_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(UsageError, match="Did you mean 'text-classification'"):
        check(task="text-clasification")
    check(task="summarization")


def test_test_rows_are_held_out_where_they_have_answers() -> None:
    validation, test, unlabelled = rows(["a", "b"]), rows(["c", "d", "e"]), rows([None, None])
    assert held_out_rows(Splits(validation, None, test, "x"), validation, CLASSIFICATION.answers) is test
    assert held_out_rows(Splits(validation, None, unlabelled, "x"), validation, CLASSIFICATION.answers) is validation
    assert held_out_rows(Splits(validation, None, None, "x"), None, CLASSIFICATION.answers) is None
    many = rows(["a"] * 2500)
    kept = held_out_rows(Splits(validation, None, many, "x"), None, CLASSIFICATION.answers)
    assert kept is not None
    assert len(kept) == 2000
    assert len(set(kept["text"])) == 2000
    assert kept[1999]["text"] == "row 2498"


def test_held_out_rows_have_the_columns_of_the_data(tmp_path: Path) -> None:
    write_held_out(tmp_path, add_provenance(rows(["ä", "b"]), "x.jsonl", all_names=["x.jsonl"]))
    written = [json.loads(line) for line in (tmp_path / "held_out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert written == [{"text": "row 0", "label": "ä"}, {"text": "row 1", "label": "b"}]
    write_held_out(tmp_path / "nowhere", None)


@pytest.mark.parametrize(
    ("row", "given", "chosen"),
    [
        ({"text": "a", "label": "b"}, {}, ("text-classification", False)),
        ({"text": "a", "label": "b"}, {"head": True}, ("text-classification", True)),
        ({"document": "a", "summary": "b"}, {}, ("summarization", False)),
        ({"tokens": ["a"], "tags": ["O"]}, {}, ("token-classification", True)),
        ({"tokens": ["a"], "tags": ["O"]}, {"task": "text-generation"}, ("text-generation", False)),
        ({"text1": "a", "text2": "b", "score": 1}, {}, ("similarity", True)),
        ({"text1": "a", "text2": "b", "score": 1}, {"task": "text-classification", "head": True}, ("text-classification", True)),
        ({"text1": "a", "text2": "b", "score": 1}, {"head": True}, ("text-classification", True)),
    ],
)
def test_the_task_follows_the_rows_unless_somebody_says_otherwise(
    row: dict[str, Any], given: dict[str, Any], chosen: tuple[str, bool]
) -> None:
    assert choose_task(options(**given), given, recognize(Dataset.from_list([row]))) == chosen


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"text_template": "{ticket}\\n{label}"}, "text-classification"),
        ({"text_template": "{phrase}: {Tone}!"}, "text-classification"),
        ({"text_template": "{ticket}\\n{label}", "task": "text-generation"}, "text-generation"),
        ({"text_template": "{label} {text}"}, "text-generation"),
        ({"text_template": "{label}"}, "text-generation"),  # nothing to choose it by
        ({"text_template": "no column"}, "text-generation"),
        ({"text_template": "{text} {label"}, "text-generation"),
        ({"text_field": "label"}, "text-generation"),
    ],
)
def test_a_template_that_ends_in_a_label_is_for_classification(given: dict[str, Any], name: str) -> None:
    assert choose_task(options(**given), given, None) == (name, False)


def test_a_head_reads_the_columns_of_its_rows() -> None:
    pair = recognize(Dataset.from_list([{"text1": "a", "text2": "b", "score": 1}]))
    assert columns_of(pair, "similarity") == columns_of(pair, "text-classification") == Columns(("text1", "text2"), "score")
    with pytest.raises(DataError, match="--task token-classification needs rows with tokens and tags"):
        columns_of(pair, "token-classification")


def test_metrics_that_a_task_has_nothing_for_are_refused() -> None:
    text = Generation(text_task("summarization", options(), CLASSIFICATION, rows(["a"])))
    assert [metric.name for metric in metrics_of(options(eval_metrics="rouge,bleu"), text, validated=True)] == ["rouge", "bleu"]
    for name, validated, words in (("span_f1", True, "compares spans"), ("rouge", False, "needs validation rows")):
        with pytest.raises(UsageError, match=words):
            metrics_of(options(eval_metrics=name), text, validated=validated)
