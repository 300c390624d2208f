"""Row formats: recognized by their columns, turned into conversations."""

from __future__ import annotations

import json
from typing import Any

import pytest
from datasets import Dataset

from tunesmith.data.formats import Format, recognize
from tunesmith.data.provenance import add_provenance
from tunesmith.errors import DataError

USER = {"role": "user", "content": "hi"}
ASSISTANT = {"role": "assistant", "content": "ho"}

# name of the format, task, a row, its conversation
ROWS: list[tuple[str, str, dict[str, Any], list[tuple[str, str]]]] = [
    ("messages", "text-generation", {"messages": [USER, ASSISTANT]}, [("user", "hi"), ("assistant", "ho")]),
    (
        "sharegpt",
        "text-generation",
        {"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "ho"}]},
        [("user", "hi"), ("assistant", "ho")],
    ),
    ("alpaca", "text-generation", {"instruction": "add", "input": "1 2", "output": "3"}, [("user", "add\n\n1 2"), ("assistant", "3")]),
    ("alpaca", "text-generation", {"instruction": "add", "input": "", "output": "3"}, [("user", "add"), ("assistant", "3")]),
    (
        "alpaca",
        "text-generation",
        {"tool": "ls", "instruction": "list", "output": "ls -l", "platform": "linux"},
        [("user", "list"), ("assistant", "ls -l")],
    ),
    ("prompt-completion", "text-generation", {"prompt": "hi", "completion": "ho"}, [("user", "hi"), ("assistant", "ho")]),
    ("prompt-completion", "text-generation", {"prompt": [USER], "completion": [ASSISTANT]}, [("user", "hi"), ("assistant", "ho")]),
    ("question-answer", "text-generation", {"question": "why?", "answer": "so"}, [("user", "why?"), ("assistant", "so")]),
    (
        "question-answer",
        "text-generation",
        {"context": "sky", "question": "why?", "answers": {"text": ["so", "thus"], "answer_start": [0, 1]}},
        [("user", "sky\n\nwhy?"), ("assistant", "so")],
    ),
    ("document-summary", "summarization", {"document": "long", "summary": "s"}, [("user", "Summarize:\n\nlong"), ("assistant", "s")]),
    ("document-summary", "summarization", {"article": "long", "highlights": "s"}, [("user", "Summarize:\n\nlong"), ("assistant", "s")]),
    ("document-summary", "summarization", {"long": "long", "short": "s", "x": 1}, [("user", "Summarize:\n\nlong"), ("assistant", "s")]),
    ("text-label", "text-classification", {"text": "hi", "label": "a"}, [("user", "hi"), ("assistant", "a")]),
    ("text-label", "text-classification", {"text": "hi", "label": 3, "slots": []}, [("user", "hi"), ("assistant", "3")]),
    ("text-label", "text-classification", {"Phrase": "hi", "Tone": "a"}, [("user", "hi"), ("assistant", "a")]),
    ("text-pair", "similarity", {"text1": "hi", "text2": "ho", "label": 1}, [("user", "hi\n\nho"), ("assistant", "1")]),
    ("text-pair", "similarity", {"question1": "hi", "question2": "ho", "is_duplicate": 0}, [("user", "hi\n\nho"), ("assistant", "0")]),
    ("tokens-tags", "token-classification", {"tokens": ["a", "b"], "ner_tags": ["O", "X"]}, [("user", "a b"), ("assistant", "O")]),
    (
        "text-json",
        "extraction",
        {"text": "hi", "label": "x", "json": '{"a": 1}'},
        [("user", "Extract as JSON:\n\nhi"), ("assistant", '{"a": 1}')],
    ),
    ("input-output", "text-generation", {"input": "hi", "output": "ho"}, [("user", "hi"), ("assistant", "ho")]),
    ("input-output", "text-generation", {"mr": "hi", "ref": "ho"}, [("user", "hi"), ("assistant", "ho")]),
    ("input-output", "text-generation", {"mr": "hi", "refs": ["ho", "hu"]}, [("user", "hi"), ("assistant", "ho")]),
]


def turns(form: Format, row: dict[str, Any]) -> list[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in form.to_record(row).messages]


@pytest.mark.parametrize(("name", "task", "row", "conversation"), ROWS)
def test_formats_are_recognized(name: str, task: str, row: dict[str, Any], conversation: list[tuple[str, str]]) -> None:
    form = recognize(Dataset.from_list([row]))
    assert (form.name, form.task) == (name, task)
    assert form.detect(row)
    assert turns(form, row) == conversation


def test_plain_text_is_recognized() -> None:
    form = recognize(Dataset.from_list([{"text": "once", "id": 1}]))
    assert (form.name, form.answer_column) == ("text", "text")
    assert form.to_record({"text": "once"}).text == "once"


def test_classification_keeps_the_label() -> None:
    form = recognize(Dataset.from_list([{"text": "hi", "label": 3}]))
    assert form.to_record({"text": "hi", "label": 3}).label == "3"


@pytest.mark.parametrize("answer", [None, "", "  ", []])
def test_a_row_without_an_answer_ends_with_the_user(answer: object) -> None:
    form = recognize(Dataset.from_list([{"input": "hi", "output": "ho"}]))
    assert turns(form, {"input": "hi", "output": answer}) == [("user", "hi")]


def test_an_unknown_format_lists_columns_formats_and_the_way_out() -> None:
    data = add_provenance(Dataset.from_list([{"nouns": ["a"], "verbs": ["b"]}]), "x.jsonl", all_names=["x.jsonl"])
    with pytest.raises(DataError) as caught:
        recognize(data, origin="x.jsonl")
    assert str(caught.value).startswith("x.jsonl: the row format isn't known: columns nouns, verbs; formats known: tokens+tags; ")
    assert '--text_template "{nouns}\\n{verbs}"' in str(caught.value)


def test_tool_calls_keep_their_arguments_and_lose_arrows_nulls() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
    row = {
        "messages": [USER, {"role": "assistant", "content": None, "tool_calls": [call], "name": None}],
        "tools": json.dumps([{"type": "function", "function": {"name": "f", "parameters": None}}]),
    }
    record = recognize(Dataset.from_list([row])).to_record(row)
    parsed = {**call, "function": {"name": "f", "arguments": {"x": 1}}}
    assert record.messages[1] == {"role": "assistant", "content": "", "tool_calls": [parsed]}
    assert record.tools == ({"type": "function", "function": {"name": "f"}},)


def test_messages_written_as_json_text_are_read() -> None:
    row = {"messages": json.dumps([USER, ASSISTANT])}
    assert turns(recognize(Dataset.from_list([row])), row) == [("user", "hi"), ("assistant", "ho")]


def test_sharegpt_turns_under_the_name_of_messages() -> None:
    row = {"messages": [{"from": "system", "value": "be"}, {"from": "human", "value": "hi"}, {"from": "gpt", "value": "ho"}]}
    assert turns(recognize(Dataset.from_list([row])), row) == [("system", "be"), ("user", "hi"), ("assistant", "ho")]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"messages": "hello"}, "no list of messages, it holds 'hello'"),
        ({"messages": [{"content": "x"}]}, "a message has no 'role'; it has: content"),
        ({"conversations": [{"from": "martian", "value": "x"}]}, "a turn is from 'martian'; known: human"),
    ],
)
def test_conversations_that_are_none(row: dict[str, Any], words: str) -> None:
    form = recognize(Dataset.from_list([row]))
    with pytest.raises(DataError, match=words):
        form.to_record(row)
