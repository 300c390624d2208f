"""Dividing: shares, labels, groups, time, and no text in two files."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from conftest_types import Write
from doctor_rows import clean_rows

from tunesmith.data.dividing import Divided, divide
from tunesmith.errors import DataError, OutputError, UsageError


def parts(divided: Divided) -> dict[str, list[dict[str, Any]]]:
    return {name: [json.loads(line) for line in path.read_text().splitlines()] for name, path in divided.files.items()}


def run(write: Write, rows: list[dict[str, Any]], **options: Any) -> dict[str, list[dict[str, Any]]]:
    return parts(divide([write("all.jsonl", rows)], Path("parts"), **options))


def test_labels_are_spread_alike(write: Write) -> None:
    found = run(write, clean_rows(300), test_fraction=0.2)
    assert {name: len(rows) for name, rows in found.items()} == {"train": 210, "validation": 30, "test": 60}
    assert Counter(row["label"] for row in found["test"]) == {"place": 20, "time": 20, "colour": 20}
    assert sorted(row["text"] for rows in found.values() for row in rows) == sorted(row["text"] for row in clean_rows(300))


def test_the_seed_decides(write: Write) -> None:
    first, again, other = (run(write, clean_rows(100), seed=seed, overwrite=True) for seed in (1, 1, 2))
    assert first == again != other


def test_a_text_is_never_in_two_files(write: Write) -> None:
    rows = clean_rows(100)
    rows += [{**row, "text": row["text"].upper() + "?"} for row in rows]
    found = run(write, rows)
    texts = {name: {row["text"].lower().rstrip("?") for row in part} for name, part in found.items()}
    assert not texts["train"] & texts["test"]
    assert not texts["train"] & texts["validation"]
    assert not texts["validation"] & texts["test"]
    assert 18 <= len(found["test"]) <= 20  # whole pairs only


def test_groups_stay_together_and_with_their_texts(write: Write) -> None:
    rows = [{**row, "user": f"u{at // 5}"} for at, row in enumerate(clean_rows(200))]
    rows.append({**rows[0], "user": "u39"})  # one text of two users: both users go the same way
    found = run(write, rows, group_by="user", test_fraction=0.3)
    users = {name: {row["user"] for row in part} for name, part in found.items()}
    assert sum(map(len, users.values())) == 40
    assert any({"u0", "u39"} <= part for part in users.values())


def test_the_latest_rows_are_the_test_rows(write: Write) -> None:
    rows = [{**row, "date": f"2026-{at % 12 + 1:02d}-{at // 12 + 1:02d}"} for at, row in enumerate(clean_rows(100))]
    divided = divide([write("all.jsonl", [*rows, {**rows[0], "date": "2027-01-01"}])], Path("parts"), time_by="date")
    found = parts(divided)
    assert max(row["date"] for row in found["train"]) <= min(row["date"] for row in found["validation"])
    assert max(row["date"] for row in found["validation"]) <= min(row["date"] for row in found["test"])
    assert divided.num_rows["left_out"] == 1
    assert divided.left_out_path is not None
    assert json.loads(divided.left_out_path.read_text())["date"] == "2027-01-01"
    assert "1 rows left out" in divided.words()[-1]


def test_another_column_is_spread(write: Write) -> None:
    rows = [{**row, "source": "ab"[at >= 80]} for at, row in enumerate(clean_rows(100))]
    found = run(write, rows, stratify_by="source", validation_fraction=0, test_fraction=0.5)
    assert set(found) == {"train", "test"}
    assert Counter(row["source"] for row in found["test"]) == {"a": 40, "b": 10}


def test_tables_are_written(write: Write) -> None:
    divided = divide([write("all.jsonl", clean_rows())], Path("parts"), file_type=".csv")
    assert divided.files["test"].read_text().splitlines()[0] == "text,label"


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"test_fraction": 0, "validation_fraction": 0}, UsageError, "no rows on one side"),
        ({"test_fraction": 0.6, "validation_fraction": 0.5}, UsageError, "no rows on one side"),
        ({"group_by": "usr"}, DataError, "no column 'usr'"),
        ({"time_by": "label"}, DataError, "'label' is 'place', no time"),
        ({"time_by": "user", "group_by": "user"}, UsageError, "--group_by has no effect with --time_by"),
        ({"group_by": "one"}, DataError, "no row is left for validation"),
        ({"file_type": ".xml"}, OutputError, "'.xml' can't be written"),
        ({"map_columns": {"a": "b"}}, DataError, "no column 'a'"),
    ],
)
def test_what_cant_be_divided(options: dict[str, Any], error: type[Exception], words: str, write: Write) -> None:
    rows = [{**row, "user": at, "one": 1} for at, row in enumerate(clean_rows(20))]
    with pytest.raises(error, match=words):
        divide([write("all.jsonl", rows)], Path("parts"), **options)
    assert not Path("parts").exists()


def test_a_row_that_cant_be_read_stops(write: Write) -> None:
    with pytest.raises(DataError, match=r"all.jsonl:2: not JSON.*tunesmith data check"):
        divide([write("all.jsonl", '{"text": "a", "label": "b"}\n{oops\n')], Path("parts"))
