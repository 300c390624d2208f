"""Prompts from rows of every kind, and from files of answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tunesmith.errors import DataError
from tunesmith.evaluate.rating.prompts import RatingPrompt, read_answers, read_prompts


def lines(path: Path, rows: list[Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("row", "text", "reference"),
    [
        ({"prompt": "say hi"}, "say hi", None),
        ({"question": "why?", "answer": "so"}, "why?", "so"),
        ({"text": "I am cross", "label": "angry"}, "I am cross", "angry"),
        ({"instruction": "add", "input": "1 2", "output": "3"}, "add\n\n1 2", "3"),
        ({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}, "a", "b"),
        (
            {"messages": [{"role": "system", "content": "be kind"}, {"role": "user", "content": "a"}]},
            "System: be kind\n\nUser: a",
            None,
        ),
    ],
)
def test_rows(row: dict[str, Any], text: str, reference: str | None, tmp_path: Path) -> None:
    found = read_prompts([lines(tmp_path / "rows.jsonl", [row, row])])
    assert [(prompt.text, prompt.reference) for prompt in found] == [(text, reference)] * 2
    assert found[0].row == row
    assert RatingPrompt.from_dict(json.loads(json.dumps(found[0].to_dict()))).text == text


def test_a_named_column_and_fewer_prompts(tmp_path: Path) -> None:
    file = lines(tmp_path / "rows.jsonl", [{"id": n, "ask": f"q{n}"} for n in range(9)])
    found = read_prompts([file], text_field="ask", max_samples=3)
    assert len(found) == 3
    assert {prompt.text for prompt in found} < {f"q{n}" for n in range(9)}


@pytest.mark.parametrize(
    ("rows", "options", "words"),
    [
        ([], {}, "empty"),
        ([{"prompt": "a"}, {"prompt": "  "}], {}, "row 2: the prompt is empty"),
        ([{"foo": "a", "bar": "b"}], {}, "which column is the prompt: foo, bar. Name it: --text_field"),
        ([{"foo": "a"}], {"text_field": "fo"}, "there is no column 'fo'; there are: foo"),
    ],
)
def test_prompts_that_are_none(rows: list[Any], options: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read_prompts([lines(tmp_path / "rows.jsonl", rows)], **options)
    assert words in str(caught.value)


def test_answers_of_evaluate_and_of_generate(tmp_path: Path) -> None:
    ours = lines(
        tmp_path / "a.jsonl", [{"row": 1, "input": "q1", "references": ["r"], "output": "x"}, {"row": 2, "input": "q2", "output": ""}]
    )
    other = lines(tmp_path / "b.jsonl", [{"prompt": f"q{n}", "generated": "y", "stopped": True, "num_tokens": 1} for n in (1, 2)])
    prompts, answers = read_answers([ours, other])
    assert [(prompt.text, prompt.reference) for prompt in prompts] == [("q1", "r"), ("q2", None)]
    assert answers == [["x", ""], ["y", "y"]]


def test_the_conversation_of_a_generated_answer(tmp_path: Path) -> None:
    row = {"messages": [{"role": "user", "content": "a"}], "generated": "y"}
    assert read_answers([lines(tmp_path / "a.jsonl", [row])] * 2)[0][0].text == "a"


@pytest.mark.parametrize(
    ("second", "words"),
    [
        ([{"input": "q1", "output": "y"}], "it answers 1 prompts"),
        ([{"input": "q1", "output": "y"}, {"input": "q3", "output": "y"}], "row 2: the prompt is another one than in"),
        ([{"input": "q1", "score": 1}], "line 1 has no answer: no text 'output' or 'generated'; it has: input, score"),
        ([3], "line 1 is no object"),
        ([], "there is no answer in it"),
    ],
)
def test_answers_that_do_not_fit(second: list[Any], words: str, tmp_path: Path) -> None:
    first = lines(tmp_path / "a.jsonl", [{"input": f"q{n}", "output": "x"} for n in (1, 2)])
    with pytest.raises(DataError) as caught:
        read_answers([first, lines(tmp_path / "b.jsonl", second)])
    assert words in str(caught.value)


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "latin.jsonl").write_bytes(b"\xff\xfe")
    (tmp_path / "broken.jsonl").write_text("{oops\n")
    for name, words in (
        ("", "is a folder"),
        ("none.jsonl", "no such file"),
        ("latin.jsonl", "can't be read"),
        ("broken.jsonl", "not JSON"),
    ):
        with pytest.raises(DataError, match=words):
            read_answers([str(tmp_path / name)] * 2)
