"""Tags of words: which tags, where they stand among sub-words, rows of spans, and the same loss as plain transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from short_task import DECODER, ENCODER, TAGGED, base_folder, batch_of, load_for, make_task, prepared

from tunesmith.data.spans import read_spans, scheme_of
from tunesmith.errors import DataError
from tunesmith.metrics import load_metric
from tunesmith.tasks.protocol import Columns

SPANS = [{"text": "Anna Smith asks.", "spans": [{"start": 0, "end": 10, "label": "person"}]}, {"text": "to Oslo", "spans": []}]


def test_tags_of_all_rows_and_outside() -> None:
    assert make_task("token-classification").record.labels == ("B-person", "B-place", "I-person", "O")
    assert make_task("token-classification", [{"tokens": ["a"], "tags": ["x"]}]).record.labels == ("O", "x")


def test_a_tag_stands_at_the_first_sub_word() -> None:
    task: Any = make_task("token-classification")
    row = prepared(task).dataset[0]
    ids, labels = row["input_ids"], row["labels"]
    assert task.tokenizer.decode(ids) == "user asks Anna Smith in Oslo"
    found = [(task.tokenizer.decode(ids[place:]).split()[0], task.record.labels[tag]) for place, tag in enumerate(labels) if tag != -100]
    assert found == list(zip(TAGGED[0]["tokens"], TAGGED[0]["tags"], strict=True))
    assert labels.count(-100) == len(ids) - 6


def test_a_decoder_learns_the_tag_at_the_last_sub_word() -> None:
    task: Any = make_task("token-classification", reading=DECODER)
    assert (task.record.sub_word, make_task("token-classification").record.sub_word) == ("last", "first")
    ids, labels = (prepared(task).dataset[0][name] for name in ("input_ids", "labels"))
    before = 0
    for word, tag, place in zip(TAGGED[0]["tokens"], TAGGED[0]["tags"], [n for n, tag in enumerate(labels) if tag != -100], strict=True):
        assert task.tokenizer.decode(ids[before : place + 1]).strip() == word
        assert task.record.labels[labels[place]] == tag
        before = place + 1
    assert before == len(ids)


def test_rows_of_text_and_spans_are_the_same_in_another_form() -> None:
    task: Any = make_task("token-classification", SPANS, columns=Columns(("text",), "spans"))
    assert task.record.labels == ("B-person", "I-person", "O")
    row = prepared(task, SPANS).dataset[0]
    found = [task.record.labels[tag] for tag in row["labels"] if tag != -100]
    assert found == ["B-person", "I-person", "O", "O"]


def test_spans_in_several_spellings() -> None:
    text = "Anna met Bo."
    for spans in (
        [[0, 4, "p"], [9, 11, "p"]],
        '[{"start": 9, "end": 11, "label": "p"}, {"start": 0, "end": 4, "label": "p"}]',
        [{"start_offset": 0, "end_offset": 4, "tag": "p"}, {"begin": 9, "stop": 11, "type": "p", "end": None}],
    ):
        found = read_spans({"text": text, "spans": spans}, "text", "spans")
        assert found is not None
        assert found[2] == ["B-p", "O", "B-p", "O"]
    assert read_spans({"text": text, "spans": None}, "text", "spans") is None
    inside = read_spans({"text": "Johnson", "spans": [[4, 7, "x"]]}, "text", "spans")
    assert inside is not None
    assert inside[2] == ["B-x"]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"text": "Anna", "spans": [[0, 9, "p"]]}, "from 0 to 9, the text has 4 characters"),
        ({"text": "Anna", "spans": [[2, 2, "p"]]}, "from 2 to 2"),
        ({"text": "Anna", "spans": [[0, 3, "p"], [2, 4, "q"]]}, "overlap at character 2"),
        ({"text": "Anna", "spans": [{"start": 0}]}, "a span in 'spans' is"),
        ({"text": "Anna", "spans": "person"}, "no list of spans"),
        ({"text": "", "spans": []}, "'text' is empty"),
    ],
)
def test_bad_spans_are_named(row: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_spans(row, "text", "spans")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"tokens": ["a", "b"], "tags": ["B-x"]}, "row 2: 2 words in 'tokens', but 1 tags in 'tags'"),
        ({"tokens": ["a"], "tags": [None]}, "row 2: a tag in 'tags' is empty"),
    ],
)
def test_bad_tags_are_named_with_their_row(row: dict[str, Any], words: str) -> None:
    rows = [{"tokens": ["a", "b"], "tags": ["O", "B-x"]}, row]
    with pytest.raises(DataError, match=words):
        prepared(make_task("token-classification", rows), rows)


def test_numbers_without_names_are_refused() -> None:
    rows = [{"tokens": ["a", "b"], "tags": [0, 1]}]
    with pytest.raises(DataError, match="row 1: a tag in 'tags' is 0, a number without a name"):
        make_task("token-classification", rows)


def test_rows_without_any_tag_are_refused() -> None:
    with pytest.raises(DataError, match="no tag but O"):
        make_task("token-classification", [{"tokens": ["a"], "tags": ["O"]}])


def test_schemes() -> None:
    assert scheme_of(["O", "B-x", "I-x"]) == "BIO"
    assert scheme_of(["O", "B-x", "E-x", "S-x"]) == "BIOES"
    assert scheme_of(["O", "I-x"]) == scheme_of(["O", "person"]) == "IO"


@pytest.mark.parametrize("family", ["llama", "bert"])
def test_the_loss_is_that_of_plain_transformers(family: str, tmp_path: Path) -> None:
    task = make_task("token-classification", reading=DECODER if family == "llama" else ENCODER)
    model, batch = load_for(task, base_folder(family, tmp_path)), batch_of(task)
    mask = (torch.arange(batch["input_ids"].shape[1])[None, :] < batch["lengths"][:, None]).long()
    with torch.no_grad():
        expected = model(input_ids=batch["input_ids"], attention_mask=mask, labels=batch["labels"])
        found = task.loss(model, batch)
    assert found.count == task.count(batch) == sum(len(row["tokens"]) for row in TAGGED)
    assert float(found.loss_sum / found.count) == pytest.approx(float(expected.loss), rel=1e-5)
    assert [len(tags) for tags, _ in found.seen] == [len(row["tokens"]) for row in TAGGED]
    predictions, references = task.for_metric("spans", found.seen)
    assert references[0] == TAGGED[0]["tags"]
    assert load_metric("span_f1").compute(references, references)["span_f1"] == 1
    assert len(predictions[0]) == 6


def test_words_that_are_all_cut_off_cost_nothing(tmp_path: Path) -> None:
    task = make_task("token-classification")
    model, batch = load_for(task, base_folder("llama", tmp_path)), batch_of(task)
    batch["labels"][:] = -100
    result = task.loss(model, batch)
    result.loss_sum.backward()
    assert (result.count, float(result.loss_sum.detach())) == (0, 0.0)
