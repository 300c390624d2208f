"""Classification with a head: which labels, what a row becomes, and the same loss as plain transformers."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from short_task import DECODER, ENCODER, LABELLED, base_folder, batch_of, load_for, make_task, prepared

from tiny_encoders import segment_tokenizer
from tunesmith.config.finetune import FinetuneOptions
from tunesmith.config.resolve import resolve
from tunesmith.errors import DataError, UsageError, UserError
from tunesmith.metrics import load_metric
from tunesmith.tasks.label_loss import class_weights
from tunesmith.tasks.protocol import Columns

SEVERAL = [{"text": f"row {n}", "label": [label for label in "abc" if n % (ord(label) - 95) == 0]} for n in range(12)]


def test_labels_of_all_rows_in_order_numbers_by_value() -> None:
    assert make_task("text-classification").record.labels == ("blue", "green", "red")
    numbered = make_task("text-classification", [{"text": "a", "label": n} for n in (10, 9, 2)])
    assert numbered.record.labels == ("2", "9", "10")
    assert make_task("text-classification", [{"text": "a", "label": b} for b in (True, False)]).record.labels == ("False", "True")


def test_a_row_becomes_ids_and_the_number_of_its_label() -> None:
    task = make_task("text-classification")
    rows = prepared(task, [*LABELLED[:2], {"text": "x", "label": None}, {"text": "x", "label": " "}])
    assert rows.dataset["labels"] == [2, 1]
    assert rows.dataset["row"] == [0, 1]
    assert rows.dataset[0]["input_ids"] == task.tokenizer(LABELLED[0]["text"]).input_ids  # type: ignore[attr-defined]
    assert rows.num_dropped_rows == 2


def test_several_labels_a_row_are_zeros_and_ones() -> None:
    task = make_task("text-classification", SEVERAL)
    assert (task.record.multi_label, task.record.threshold) == (True, 0.5)
    assert prepared(task, SEVERAL).dataset["labels"][:3] == [[1, 1, 1], [0, 0, 0], [1, 0, 0]]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"text": "a", "label": "x"}] * 3, "'x' alone"),
        ([{"text": "a", "label": None}] * 3, "no label"),
        ([{"text": "a", "label": f"answer {n}"} for n in range(12)], "every row has a label of its own"),
        ([{"text": "a", "label": "x"}, {"text": "", "label": "y"}], "row 2: column 'text' is empty"),
    ],
)
def test_rows_that_can_not_be_learnt_are_refused(rows: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(DataError, match=words):
        prepared(make_task("text-classification", rows), rows)


def test_too_many_cut_rows_are_refused_unless_allowed(tmp_path: Path) -> None:
    task = make_task("text-classification")
    with pytest.raises(DataError, match="18 of 18 rows are longer than 3 tokens"):
        prepared(task, max_seq_len=3)
    report = tmp_path / "cut.jsonl"
    rows = prepared(task, max_seq_len=3, allow_truncation=True, report=report)
    assert set(rows.dataset["length"]) == {3}
    assert rows.num_cut_rows == 18
    assert rows.num_cut_tokens == sum(len(task.tokenizer(row["text"]).input_ids) - 3 for row in LABELLED)  # type: ignore[attr-defined]
    assert json.loads(report.read_text().splitlines()[0])["what"].startswith("cut: ")


@pytest.mark.parametrize("family", ["llama", "gpt2", "bert"])
def test_the_loss_is_that_of_plain_transformers(family: str, tmp_path: Path) -> None:
    task = make_task("text-classification")
    model, batch = load_for(task, base_folder(family, tmp_path)), batch_of(task)
    mask = (torch.arange(batch["input_ids"].shape[1])[None, :] < batch["lengths"][:, None]).long()
    with torch.no_grad():
        expected = model(input_ids=batch["input_ids"], attention_mask=mask, labels=batch["labels"])
        found = task.loss(model, batch)
        parts = [task.loss(model, task.part(batch, group)) for group in (range(5), range(5, 18))]
    assert float(found.loss_sum / found.count) == pytest.approx(float(expected.loss), rel=1e-5)
    assert float(sum(part.loss_sum for part in parts)) == pytest.approx(float(found.loss_sum), rel=1e-5)
    assert found.num_correct == int((expected.logits.argmax(-1) == batch["labels"]).sum())
    assert len(found.seen) == found.count == 18


def test_the_loss_of_several_labels_is_that_of_plain_transformers(tmp_path: Path) -> None:
    task = make_task("text-classification", SEVERAL)
    model, batch = load_for(task, base_folder("llama", tmp_path)), batch_of(task, SEVERAL)
    assert model.config.problem_type == "multi_label_classification"
    with torch.no_grad():
        expected, found = model(input_ids=batch["input_ids"], labels=batch["labels"]), task.loss(model, batch)
    assert float(found.loss_sum / found.count) == pytest.approx(float(expected.loss), rel=1e-5)
    predictions, references = task.for_metric("choices", found.seen)
    assert references[:2] == [[("a", "b", "c")], [()]]
    assert all(isinstance(prediction, tuple) for prediction in predictions)


def test_metrics_get_names_of_labels() -> None:
    task = make_task("text-classification")
    seen = [(torch.tensor([0.0, 2.0, 1.0]), torch.tensor(1)), (torch.tensor([3.0, 2.0, 1.0]), torch.tensor(2))]
    assert task.for_metric("choices", seen) == (["green", "blue"], [["green"], ["red"]])
    probabilities, _ = task.for_metric("probabilities", seen)
    assert sum(probabilities[0].values()) == pytest.approx(1)
    assert load_metric("accuracy").compute(*task.for_metric("choices", seen))["accuracy"] == 0.5


def test_class_weights_balance_or_come_from_a_file(tmp_path: Path) -> None:
    counts = Counter({"a": 1, "b": 3})
    assert class_weights("balanced", ["a", "b"], counts).tolist() == pytest.approx([2.0, 2 / 3])
    file = tmp_path / "weights.json"
    file.write_text('{"a": 2.5}')
    assert class_weights(str(file), ["a", "b"], counts).tolist() == [2.5, 1.0]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[1]", "no JSON file of label -> weight"),
        ('{"c": 1}', "no row has the label 'c'"),
        ('{"a": -1}', "the weight of 'a' is -1"),
        ('{"a": "much"}', "the weight of 'a' is 'much'"),
        ('{"a": 0, "b": 0}', "every weight is 0"),
    ],
)
def test_bad_class_weights_are_named(content: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "weights.json"
    file.write_text(content)
    with pytest.raises(UsageError, match=words):
        class_weights(str(file), ["a", "b"], Counter({"a": 1, "b": 3}))
    with pytest.raises(UsageError, match="nowhere"):
        class_weights(str(tmp_path / "nowhere.json"), ["a"], Counter())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"loss": "contrastive"}, "compares two texts"),
        ({"loss": "label-smoothing", "class_weights": "balanced"}, "--class_weights has no effect with --loss label-smoothing"),
        ({"loss": "crossentropy"}, "Did you mean 'cross-entropy'"),
        ({"loss_kwargs": "gamma=2"}, "can't be made with --loss_kwargs gamma=2"),
        ({"loss_kwargs": "weights=2"}, "--class_weights"),
    ],
)
def test_losses_that_do_not_fit_are_refused(options: dict[str, str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        make_task("text-classification", **options)


def test_labels_that_only_validation_rows_have_are_known() -> None:
    from tunesmith.tasks.classification import Classification

    train, validation = Dataset.from_list(LABELLED), Dataset.from_list([{"text": "a", "label": "violet"}])
    options = resolve(FinetuneOptions, [("flag", {"class_weights": "balanced"})]).options
    tokenizer = make_task("text-classification").tokenizer  # type: ignore[attr-defined]
    task = Classification.from_rows(Columns(("text",), "label"), train, validation, options, tokenizer, ENCODER)
    assert task.record.labels == ("blue", "green", "red", "violet")


ENTAILS = [
    {"one": f"a {c} thing", "two": f"{o} it is, {'indeed ' * n}", "label": "yes" if c == o else "no"}
    for n in range(3)
    for c in "ab"
    for o in "ab"
]


def test_an_encoder_is_told_which_tokens_are_of_the_second_text(tmp_path: Path) -> None:
    tokenizer, columns = segment_tokenizer(), Columns(("one", "two"), "label")
    task = make_task("text-classification", ENTAILS, columns=columns, tokenizer=tokenizer)
    assert task.record.token_types
    model, batch = load_for(task, base_folder("bert", tmp_path)), batch_of(task, ENTAILS)
    plain = tokenizer([row["one"] for row in ENTAILS], [row["two"] for row in ENTAILS], padding=True, return_tensors="pt")
    for name in ("input_ids", "token_type_ids"):
        assert torch.equal(batch[name], plain[name])
    with torch.no_grad():
        expected = model(**plain, labels=batch["labels"])
        found = task.loss(model, batch)
        untold = model(**{**plain, "token_type_ids": torch.zeros_like(plain["token_type_ids"])}, labels=batch["labels"])
    assert float(found.loss_sum / found.count) == pytest.approx(float(expected.loss), rel=1e-5)
    assert float(untold.loss) != pytest.approx(float(expected.loss), rel=1e-3), "types make a difference to this model"
    part = task.part(batch, [0, 1])
    assert part["token_type_ids"].shape == part["input_ids"].shape
    assert part["input_ids"].shape[1] < batch["input_ids"].shape[1]


def test_types_are_left_out_where_nobody_reads_them() -> None:
    columns = Columns(("one", "two"), "label")
    assert not make_task("text-classification", ENTAILS, columns=columns, tokenizer=segment_tokenizer(), reading=DECODER).record.token_types
    assert not make_task("text-classification", ENTAILS, columns=columns).record.token_types, "its tokenizer puts nothing between texts"
    alone = make_task("text-classification", tokenizer=segment_tokenizer())
    assert not alone.record.token_types
    assert "token_type_ids" not in batch_of(alone)


def test_a_teacher_without_types_is_not_given_any(tmp_path: Path) -> None:
    task = make_task(
        "text-classification", ENTAILS, columns=Columns(("one", "two"), "label"), tokenizer=segment_tokenizer(), loss="distillation"
    )
    model, batch = load_for(task, base_folder("bert", tmp_path)), batch_of(task, ENTAILS)
    task.teacher = load_for(task, base_folder("llama", tmp_path))
    assert torch.isfinite(task.loss(model, batch).loss_sum)
