"""Answers that are JSON: objects as text, and a schema that all of them fit and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from datasets import Dataset
from jsonschema import ValidationError, validate

from tunesmith.data.json_answers import infer_schema, read_schema, with_json_answers
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


def test_text_that_is_json_stays_and_other_text_is_named() -> None:
    rows = [{"answer": '{"a":1}'}, {"answer": ""}, {"answer": "no"}]
    assert with_json_answers(Dataset.from_list(rows[:2]), "answer")["answer"] == ['{"a":1}', ""]
    with pytest.raises(DataError, match="row 3: the answer in 'answer' is no JSON: 'no'"):
        with_json_answers(Dataset.from_list(rows), "answer")


def test_the_schema_is_the_narrowest_that_all_answers_fit() -> None:
    answers = [
        {"name": "a", "size": 1, "tags": ["x"], "more": None},
        {"name": "b", "size": 2.5, "tags": []},
        {"name": "c", "size": 3, "tags": ["y", "z"], "more": {"deep": True}},
    ]
    schema = infer_schema(map(json.dumps, answers))
    for answer in answers:
        validate(answer, schema)
    for wrong in (
        {"name": "a"},
        {**answers[0], "other": 1},
        {**answers[0], "size": "1"},
        {**answers[0], "tags": [1]},
        [],
        {**answers[0], "more": 1},
    ):
        with pytest.raises(ValidationError):
            validate(wrong, schema)


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
