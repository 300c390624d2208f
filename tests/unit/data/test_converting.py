"""Converting: every format to those that can hold it, and back; every kind of file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest_types import Write

from tunesmith.data.converting import convert
from tunesmith.data.sources import load_splits
from tunesmith.errors import DataError, OutputError

ASK, TELL = "Which colour?", "Red."
SOURCES: dict[str, dict[str, Any]] = {
    "messages": {"messages": [{"role": "user", "content": ASK}, {"role": "assistant", "content": TELL}]},
    "sharegpt": {"conversations": [{"from": "human", "value": ASK}, {"from": "gpt", "value": TELL}]},
    "alpaca": {"instruction": ASK, "input": "", "output": TELL},
    "prompt-completion": {"prompt": ASK, "completion": TELL},
    "text-label": {"text": ASK, "label": TELL},
}


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("target", SOURCES)
def test_every_format_becomes_every_other(source: str, target: Any, write: Write) -> None:
    result = convert([write("in.jsonl", [SOURCES[source]] * 2)], Path("out.jsonl"), to=target)
    assert rows_of(result.output_path) == [SOURCES[target]] * 2
    assert (result.num_rows, result.source, result.target) == (2, source, target)


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".tsv", ".parquet"])
def test_every_kind_of_file(suffix: str, write: Write) -> None:
    rows = [{"text": f'number {number}, "quoted"\tand\nbroken é', "label": "b"} for number in range(3)]
    result = convert([write("in.jsonl", rows)], Path(f"out{suffix}"))
    read = load_splits(data_files=[str(result.output_path)]).train.select_columns(["text", "label"])
    assert list(read) == rows
    back = convert([result.output_path], Path("back.jsonl"))
    assert rows_of(back.output_path) == rows


def test_a_system_message_and_an_input_stay(write: Write) -> None:
    row = {"instruction": "Translate", "input": "chat", "output": "cat", "system": "Be brief."}
    chat = convert([write("in.jsonl", [row])], Path("chat.jsonl"), to="messages").output_path
    assert [message["role"] for message in rows_of(chat)[0]["messages"]] == ["system", "user", "assistant"]
    assert rows_of(convert([chat], Path("pairs.jsonl"), to="prompt-completion").output_path) == [
        {"prompt": "Translate\n\nchat", "completion": "cat", "system": "Be brief."}
    ]
    assert rows_of(convert([write("in.jsonl", [row])], Path("same.jsonl"), to="alpaca").output_path) == [row]


def test_several_answers_are_said(write: Write) -> None:
    result = convert([write("in.jsonl", [{"mr": "a", "refs": ["b", "c"]}])], Path("out.jsonl"), to="prompt-completion")
    assert rows_of(result.output_path) == [{"prompt": "a", "completion": "b"}]
    assert result.words()[-1] == "1 rows have several answers; the first of each was kept."


TURNS = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}] * 2
CALL = [
    {"role": "user", "content": "a"},
    {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]},
]


@pytest.mark.parametrize(
    ("row", "target", "words"),
    [
        ({"messages": TURNS}, "alpaca", "in.jsonl:1: a conversation of user, assistant, user, assistant is no single exchange"),
        ({"messages": CALL}, "sharegpt", "calls a tool"),
        ({"messages": CALL}, "prompt-completion", "no single exchange"),
        ({"messages": [{"role": "system", "content": "s"}, *TURNS[:2]]}, "text-label", "system message"),
        ({"messages": [{"role": "narrator", "content": "s"}]}, "sharegpt", "'narrator'"),
        ({"messages": "hello"}, "sharegpt", "no list of messages"),
        ({"text": "plain"}, "messages", "no prompt and answer"),
        ({"prompt": "a", "completion": "b"}, "text", "can't tell apart"),
        ({"foo": 1, "bar": 2}, "messages", "row format isn't known"),
    ],
)
def test_what_a_format_cant_hold(row: dict[str, Any], target: Any, words: str, write: Write) -> None:
    with pytest.raises(DataError, match=words):
        convert([write("in.jsonl", [row])], Path("out.jsonl"), to=target)
    assert sorted(file.name for file in Path().iterdir() if file.is_file()) == ["in.jsonl"]


def test_unknown_endings_are_refused(write: Write) -> None:
    with pytest.raises(OutputError, match=r"'.xlsx' can't be written.*Known: .jsonl"):
        convert([write("in.jsonl", [{"text": "a"}])], Path("out.xlsx"))
