"""Answers that are JSON: columns of objects and lists as JSON text, and a schema read from a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.data.provenance import place_of
from tunesmith.data.turns import without_none
from tunesmith.errors import DataError, UsageError

if TYPE_CHECKING:
    from datasets import Dataset

_STAND_IN = "_json"


def with_json_answers(dataset: Dataset, column: str) -> Dataset:
    """Return the rows with the column's objects and lists as JSON text, keys that other rows brought in left out; texts stay.

    Raises:
        DataError: for a text that is no JSON, with its row.
    """
    from datasets import Value

    texts: list[str | None] = []
    for index, value in enumerate(dataset[column]):
        if isinstance(value, str):
            _check_json(value, column, dataset, index)
        texts.append(json_answer(value))
    added = dataset.add_column(_STAND_IN, texts, feature=Value("string"))  # removed first, a single column would leave no rows to add to
    return added.remove_columns(column).rename_column(_STAND_IN, column)


def json_answer(value: object) -> str | None:
    """Return a cell as one answer in JSON: a text as it is, objects without the nulls of other rows' keys; None for an empty cell."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(without_none(value), ensure_ascii=False)


def read_schema(file: str) -> dict[str, Any]:
    """Read a JSON schema from a file.

    Raises:
        UsageError: when it can't be read, or is no schema.
    """
    try:
        schema = json.loads(Path(file).expanduser().read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"--answer_schema {file} can't be read: {error}", fix="Name a file with a JSON schema.") from error
    if not isinstance(schema, Mapping) or not schema.keys() & {"type", "properties", "items", "$ref", "anyOf", "oneOf", "allOf", "enum"}:
        raise UsageError(f"--answer_schema {file} is no JSON schema", fix='It says what type an answer has: {"type": "object", …}')
    return dict(schema)


def _check_json(text: str, column: str, dataset: Dataset, index: int) -> None:
    try:
        if text.strip():
            json.loads(text)
    except ValueError as error:
        file, row = place_of(dataset, index)
        fix = "Write answers as JSON, or leave --task extraction out."
        raise DataError(f"the answer in '{column}' is no JSON: {text[:60]!r} ({error})", file=file, row=row, fix=fix) from error
