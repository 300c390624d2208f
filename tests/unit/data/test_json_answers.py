"""Answers that are JSON: objects as text, and schemas in files."""

from __future__ import annotations

from pathlib import Path

import pytest
from datasets import Dataset

from tunesmith.data.json_answers import json_answer, read_schema, with_json_answers
from tunesmith.errors import DataError, UsageError


def test_objects_become_text_without_what_other_rows_brought_in() -> None:
    rows = [
        {"text": "a", "slots": [{"slot": "city", "value": "Bærum"}]},
        {"text": "b", "slots": [{"slot": "time"}]},
        {"text": "c", "slots": []},
        {"text": "d", "slots": None},
    ]
    found = with_json_answers(Dataset.from_list(rows), "slots")["slots"]
    assert found == ['[{"slot": "city", "value": "Bærum"}]', '[{"slot": "time"}]', "[]", None]


def test_a_cell_is_one_answer() -> None:
    assert json_answer([{"a": 1, "b": None}, {"b": "ü"}]) == '[{"a": 1}, {"b": "ü"}]'
    assert json_answer([]) == "[]"
    assert json_answer('{"a":1}') == '{"a":1}'
    assert json_answer(None) is None


def test_text_that_is_json_stays_and_other_text_is_named() -> None:
    rows = [{"answer": '{"a":1}'}, {"answer": ""}, {"answer": "no"}]
    assert with_json_answers(Dataset.from_list(rows[:2]), "answer")["answer"] == ['{"a":1}', ""]
    with pytest.raises(DataError, match="row 3: the answer in 'answer' is no JSON: 'no'"):
        with_json_answers(Dataset.from_list(rows), "answer")


def test_a_schema_file(tmp_path: Path) -> None:
    file = tmp_path / "schema.json"
    file.write_text('{"type": "object"}')
    assert read_schema(str(file)) == {"type": "object"}
    for content, words in (("{oops", "can't be read"), ("[1]", "is no JSON schema"), ('{"name": "x"}', "is no JSON schema")):
        file.write_text(content)
        with pytest.raises(UsageError, match=words):
            read_schema(str(file))
    with pytest.raises(UsageError, match="can't be read"):
        read_schema(str(tmp_path / "nowhere.json"))
