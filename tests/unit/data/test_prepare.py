"""From rows to labelled ids: what is kept, cut, dropped and said, and when the cache is used."""

from __future__ import annotations

import json
import logging
import pickle
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, List, Value, concatenate_datasets

from tiny_models import tiny_tokenizer
from tunesmith.data import prepare as room
from tunesmith.data.prepare import prepare
from tunesmith.data.provenance import add_provenance
from tunesmith.data.templates import Template, choose_template
from tunesmith.errors import DataError, UsageError

TOKENIZER = tiny_tokenizer()
TEXT = "{q}>{a}"


def rows(*pairs: tuple[str, str | None], name: str = "rows.jsonl") -> Dataset:
    data = Dataset.from_dict({"q": [question for question, _ in pairs], "a": [answer for _, answer in pairs]})
    return add_provenance(data, name, all_names=[name])


def template(text: str = TEXT, **options: Any) -> Template:
    return choose_template(None, ["q", "a"], TOKENIZER, text_template=text, **options)


def letters(count: int) -> str:
    """A text of so many tokens in the tiny vocabulary."""
    text = "zq" * (count // 2) + "z" * (count % 2)
    assert len(TOKENIZER(text).input_ids) == count
    return text


def test_ids_and_labels() -> None:
    prepared = prepare(rows(("ab", "cd"), ("abc", "d")), template(), TOKENIZER)
    prompt, answer = TOKENIZER("ab>").input_ids, TOKENIZER("cd<|im_end|>").input_ids
    assert prepared.dataset[0] == {
        "input_ids": prompt + answer,
        "labels": [-100] * len(prompt) + answer,
        "length": len(prompt + answer),
        "row": 0,
    }
    integers = Value("int32")
    assert prepared.dataset.features == {"input_ids": List(integers), "labels": List(integers), "length": integers, "row": integers}
    assert prepared.num_tokens == sum(prepared.lengths().tolist()) == sum(prepared.dataset["length"])
    assert prepared.num_supervised == sum(label != -100 for row in prepared.dataset for label in row["labels"])
    assert (prepared.num_cut_rows, prepared.num_cut_tokens, prepared.num_dropped_rows) == (0, 0, 0)


def test_the_length_follows_the_data_rounded_up_and_capped() -> None:
    data = rows(*[(letters(20), "z")] * 10, (letters(100), "z"))
    assert prepare(data, template(), TOKENIZER).max_seq_len == 128
    assert prepare(data, template(), TOKENIZER, model_max_len=110).max_seq_len == 110
    assert prepare(data, template(), TOKENIZER, max_seq_len=120).max_seq_len == 120


def test_the_longest_half_percent_does_not_decide_the_length() -> None:
    data = rows(*[(letters(20), letters(20))] * 999, (letters(90), letters(20)))
    prepared = prepare(data, template(), TOKENIZER)
    assert (prepared.max_seq_len, prepared.num_dropped_rows, len(prepared.dataset)) == (64, 1, 999)


def test_more_than_the_model_takes_is_said(caplog: pytest.LogCaptureFixture) -> None:
    assert prepare(rows(("a", "b")), template(), TOKENIZER, max_seq_len=4000, model_max_len=256).max_seq_len == 256
    assert "--max_seq_len 4000 is more than the model takes; 256 is used" in caplog.text


def test_rows_are_cut_at_their_end_dropped_without_an_answer_and_listed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    good = [(letters(4), letters(10))] * 200
    data = rows(*good[:100], (letters(4), letters(30)), (letters(40), "z"), ("q", None), ("q", " "), *good[100:])
    listed = tmp_path / "deeper" / "dropped.jsonl"
    prepared = prepare(data, template(), TOKENIZER, max_seq_len=20, dropped_file=listed)
    # The prompt of 4 tokens and '>', then 30 of the answer and the stop token: 36 tokens, 20 of which stay.
    assert prepared.dataset[100]["input_ids"] == TOKENIZER(letters(4) + ">" + letters(30)).input_ids[:20]
    assert prepared.dataset[100]["length"] == 20
    assert len(prepared.dataset) == 201
    assert (prepared.num_cut_rows, prepared.num_cut_tokens, prepared.num_dropped_rows) == (1, 16, 3)
    assert prepared.num_tokens == sum(prepared.dataset["length"])
    assert prepared.num_supervised == sum(label != -100 for row in prepared.dataset for label in row["labels"])
    assert [json.loads(line) for line in listed.read_text().splitlines()] == [
        {"row": 101, "file": "rows.jsonl", "tokens": 36, "what": "cut: 16 tokens at its end"},
        {"row": 102, "file": "rows.jsonl", "tokens": 43, "what": "dropped: the answer begins behind max_seq_len"},
        {"row": 103, "file": "rows.jsonl", "tokens": 0, "what": "dropped: no answer"},
        {"row": 104, "file": "rows.jsonl", "tokens": 0, "what": "dropped: no answer"},
    ]
    assert "2 of 204 rows have no answer and are dropped (the first: rows.jsonl, row 103)" in caplog.text
    assert "2 rows are longer than 20 tokens: 1 cut at the end (16 tokens), 1 dropped because the answer begins later; 0.8%" in caplog.text


def test_each_cut_row_keeps_its_own_tokens_and_place() -> None:
    data = rows(*[("q", letters(10))] * 3, ("x", letters(30)), ("q", "z"), ("yy", letters(40)), ("q", "z"))
    prepared = prepare(data, template(), TOKENIZER, max_seq_len=20, allow_truncation=True).dataset
    assert [row[:2] for row in prepared["input_ids"]] == [TOKENIZER(text).input_ids[:2] for text in ("q>",) * 3 + ("x>", "q>", "yy", "q>")]


def test_nothing_is_listed_when_nothing_is_lost(tmp_path: Path) -> None:
    prepare(rows(("a", "b")), template(), TOKENIZER, dropped_file=tmp_path / "dropped.jsonl")
    assert not (tmp_path / "dropped.jsonl").exists()


def test_above_five_percent_it_stops_unless_that_is_allowed(tmp_path: Path) -> None:
    data = rows(*[("q", letters(17))] * 9, ("q", letters(40)))
    words = r"1 row is longer than 20 tokens: .*of what is learnt is lost. Raise --max_seq_len \(the longest row has 43"
    with pytest.raises(DataError, match=words):
        prepare(data, template(), TOKENIZER, max_seq_len=20, dropped_file=tmp_path / "dropped.jsonl")
    assert not (tmp_path / "dropped.jsonl").exists()
    assert prepare(data, template(), TOKENIZER, max_seq_len=20, allow_truncation=True).num_cut_rows == 1


def test_nothing_left_is_an_error_even_when_cutting_is_allowed() -> None:
    with pytest.raises(DataError, match=r"1 dropped because the answer begins later; 100.0% of what is learnt is lost"):
        prepare(rows((letters(40), "z")), template(), TOKENIZER, max_seq_len=20, allow_truncation=True)


def test_a_length_that_leaves_nothing_to_predict() -> None:
    with pytest.raises(UsageError, match="--max_seq_len 1 leaves nothing to predict"):
        prepare(rows(("a", "b")), template(), TOKENIZER, max_seq_len=1)


def test_rows_that_cannot_be_rendered_name_their_file_and_row() -> None:
    files = ["a.jsonl", "b.jsonl"]
    first = add_provenance(Dataset.from_list([{"messages": "x"}]), "b.jsonl", all_names=files)
    good = add_provenance(Dataset.from_list([{"messages": '[{"role": "user", "content": "x"}]'}]), "a.jsonl", all_names=files)
    chat = Template(kind="chat", chat_template=TOKENIZER.chat_template, format="messages", columns=(("messages", "messages"),))
    with pytest.raises(DataError, match=r"b\.jsonl: row 1: column 'messages' is no list of messages"):
        prepare(concatenate_datasets([good, first]), chat, TOKENIZER)


def test_prepared_rows_are_named_as_their_files_count_them() -> None:
    pairs = [("a", "b"), ("c", None), ("d", "e")]
    names = ("x.jsonl", "y.jsonl")
    parts = [add_provenance(rows(*pairs).select_columns(["q", "a"]), name, all_names=names) for name in names]
    prepared = prepare(concatenate_datasets(parts), template(), tiny_tokenizer())
    assert prepared.in_words([3, 0, 1]) == "x.jsonl, rows 1, 3; y.jsonl, rows 3"
    assert prepared.in_words([3, 0, 1], most=2) == "x.jsonl, rows 1; y.jsonl, rows 3 …"


def test_a_missing_answer_column_is_named() -> None:
    data = Dataset.from_list([{"q": "x", "reply": "y"}])
    with pytest.raises(DataError, match=r"no column 'a'; the row is \{\"q\": \"x\".*--map_columns COLUMN=a"):
        prepare(data, template(), TOKENIZER)


def encodings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count how often rows are tokenized."""
    counted: list[int] = []
    original = room.encode_examples
    monkeypatch.setattr(room, "encode_examples", lambda *arguments: counted.append(1) or original(*arguments))
    return counted


def test_the_cache_is_used_for_the_same_content_wherever_it_comes_from(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = encodings(monkeypatch)
    first = prepare(rows(("ab", "cd")), template(), TOKENIZER)
    second = prepare(rows(("ab", "cd"), name="other.jsonl"), template(), TOKENIZER, max_seq_len=50)
    assert len(counted) == 1
    assert first.dataset[:] == second.dataset[:]


@pytest.mark.parametrize("changed", ["data", "order", "template", "prompt loss", "tokenizer", "bos", "column"])
def test_nothing_stale_is_used(changed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = encodings(monkeypatch)
    data, chosen, tokenizer = rows(("ab", "cd"), ("x", "y")), template(), TOKENIZER
    prepare(data, chosen, tokenizer)
    if changed == "data":
        data = rows(("ab", "ce"), ("x", "y"))
    elif changed == "order":
        data = rows(("x", "y"), ("ab", "cd"))
    elif changed == "column":
        data = data.rename_column("q", "p")
        chosen = choose_template(None, ["p", "a"], TOKENIZER, text_template="{p}>{a}")
    elif changed == "template":
        chosen = template("{q}: {a}")
    elif changed == "prompt loss":
        chosen = template(train_on_prompt=True)
    elif changed == "tokenizer":
        tokenizer = tiny_tokenizer()
        tokenizer.add_tokens(["abc"])
    else:
        tokenizer = tiny_tokenizer(adds_bos=True)
    prepare(data, chosen, tokenizer)
    assert len(counted) == 2


def test_without_a_cache_nothing_is_kept(tmp_path: Path) -> None:
    prepared = prepare(rows(("ab", "cd")), template(), TOKENIZER, cache=False)
    assert len(prepared.dataset) == 1
    assert not (tmp_path / "cache").exists()


def test_what_datasets_writes_beside_its_files_is_not_taken_for_rows() -> None:
    first = prepare(rows(("ab", "cd"), ("x", "y")), template(), TOKENIZER).dataset
    first.select([1, 0]).map(lambda row: row)
    assert prepare(rows(("ab", "cd"), ("x", "y")), template(), TOKENIZER).dataset[:] == first[:]


def test_a_broken_run_leaves_nothing_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(room, "encode_examples", interrupt)
    with pytest.raises(KeyboardInterrupt):
        prepare(rows(("ab", "cd")), template(), TOKENIZER)
    assert list((tmp_path / "cache" / "tokenized").iterdir()) == []


def test_a_long_preparation_says_where_it_is(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(room, "PROGRESS_ROWS", 1000)
    with caplog.at_level(logging.INFO, logger="tunesmith"):
        prepare(rows(*[("a", "b")] * 2500), template(), TOKENIZER)
    assert [record.getMessage() for record in caplog.records] == ["1,000 of 2,500 rows tokenized.", "2,000 of 2,500 rows tokenized."]


def test_several_processes_give_the_same_rows() -> None:
    data = rows(*[(f"q{number}", f"a{number}") for number in range(50)])
    alone = prepare(data, template(), TOKENIZER, cache=False)
    assert prepare(data, template(), TOKENIZER, num_proc=2).dataset[:] == alone.dataset[:]


def test_errors_survive_the_way_from_another_process() -> None:
    error = pickle.loads(pickle.dumps(DataError("bad", file="a.jsonl", row=3, fix="Mend it")))
    assert str(error) == "a.jsonl: row 3: bad. Mend it"


def test_a_conversation_of_several_examples_counts_as_one_row(caplog: pytest.LogCaptureFixture) -> None:
    jinja = "{% for m in messages %}{{ m.content }}{{ '' if not loop.last else '!' }}<|im_end|>{% endfor %}"
    turns = [{"role": role, "content": text} for role, text in (("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"))]
    chat = Template(kind="chat", chat_template=jinja, format="messages", columns=(("messages", "messages"),), stop_tokens=("<|im_end|>",))
    with caplog.at_level(logging.WARNING):
        prepared = prepare(Dataset.from_list([{"messages": turns}]), chat, TOKENIZER)
    assert (len(prepared.dataset), prepared.num_dropped_rows, caplog.text) == (2, 0, "")
