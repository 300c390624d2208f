"""Cleaning: what is mended, what goes and why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest_types import Write
from doctor_rows import clean_rows, encoded

from tunesmith.data.cleaning import Cleaned, clean
from tunesmith.data.doctor.examine import examine
from tunesmith.errors import DataError, OutputError


def rows_of(path: Path | None) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path else []


def cleaned(write: Write, rows: list[Any], **options: Any) -> Cleaned:
    return clean([write("train.jsonl", encoded(rows))], Path("clean.jsonl"), **options)


def test_clean_rows_stay_as_they_are(write: Write) -> None:
    result = cleaned(write, clean_rows())
    assert rows_of(result.output_path) == clean_rows()
    assert (result.num_kept, result.removed, result.mended, result.removed_path) == (60, {}, {}, None)
    assert not Path("clean.removed.jsonl").exists()


@pytest.mark.parametrize(
    ("text", "mended", "kind"),
    [
        ("the cafÃ© where we found the naÃ¯ve waiter", "the café where we found the naïve waiter", "mojibake"),
        ("  blanks around it \n", "blanks around it", "blanks_around"),
        ("two\r\nlines", "two\nlines", "line_breaks"),
        ("a \x00zero", "a zero", "control_character"),
        ("some\u200bthing", "something", "invisible_character"),
        ("cafe\u0301", "caf\u00e9", "composed_letters"),
        ("the turn<|im_end|> is over", "the turn is over", "special_token"),
    ],
)
def test_texts_are_mended(text: str, mended: str, kind: str, write: Write) -> None:
    result = cleaned(write, [*clean_rows(), {"text": text, "label": "place"}])
    assert rows_of(result.output_path)[-1] == {"text": mended, "label": "place"}
    assert result.mended == {kind: 1}


def test_a_line_in_another_encoding_is_read(write: Write) -> None:
    result = cleaned(write, [*clean_rows(), '{"text": "caf\xe9 \x93so\x94", "label": "place"}'.encode("latin-1")])
    assert rows_of(result.output_path)[-1]["text"] == "café “so”"
    assert result.mended == {"wrong_encoding": 1}


def test_labels_are_spelt_alike(write: Write) -> None:
    result = cleaned(write, [*clean_rows(), {"text": "a thing that is new to all", "label": "PLACE "}])
    assert rows_of(result.output_path)[-1]["label"] == "place"
    assert result.mended == {"blanks_around": 1, "label_spelling": 1}


def test_what_goes_is_listed_with_place_and_reason(write: Write) -> None:
    rows = clean_rows()
    bad: list[Any] = ["{oops", {"text": "no label"}, {"text": "", "label": "time"}, rows[2], {**rows[3], "text": rows[3]["text"] + " "}]
    result = cleaned(write, [*rows, *bad])
    removed = rows_of(result.removed_path)
    assert [(row["line"], row["reason"]) for row in removed] == [
        (61, "unreadable_row"),
        (62, "empty_answer"),
        (63, "empty_prompt"),
        (64, "duplicate_row"),
        (65, "duplicate_row"),
    ]
    assert all(row["why"] for row in removed)
    assert removed[1]["values"] == {"text": "no label"}
    assert "train.jsonl:3" in removed[3]["why"]
    assert (result.num_rows, result.num_kept) == (65, 60)
    assert "removed       2 duplicate_row" in "\n".join(result.words())


@pytest.mark.parametrize(("conflicts", "kept"), [("majority", [0, 60]), ("drop", [1]), ("keep", [0, 60, 61])])
def test_contradicting_labels(conflicts: Any, kept: list[int], write: Write) -> None:
    rows = clean_rows()
    again = [{"text": rows[0]["text"], "label": rows[0]["label"], "by": 1}, {"text": rows[0]["text"], "label": "time", "by": 2}]
    result = cleaned(write, [*rows, *again], conflicts=conflicts)
    labels = [row["label"] for row in rows_of(result.output_path) if row["text"] == rows[0]["text"]]
    # the second row with the right label is a copy; what differs is whether the other label stays
    assert labels == {"majority": ["place"], "drop": [], "keep": ["place", "time"]}[conflicts]
    assert result.removed.get("conflicting_label", 0) == {"majority": 1, "drop": 3, "keep": 0}[conflicts]


def test_a_tie_drops_both(write: Write) -> None:
    rows = clean_rows()
    result = cleaned(write, [*rows, {**rows[0], "label": "time"}])
    assert result.removed == {"conflicting_label": 2}


def test_rows_of_the_test_go(write: Write) -> None:
    rows = clean_rows()
    test = write("test.jsonl", encoded(rows[10:12]))
    result = cleaned(write, rows, test_files=[test])
    assert result.removed == {"leaked_row": 2}


def test_what_is_clean_passes_the_check(write: Write) -> None:
    rows = clean_rows()
    bad: list[Any] = [
        rows[1],
        {**rows[2], "label": "Time"},
        {"text": "x<|im_end|>y is what they had with them all", "label": " place"},
        "{",
    ]
    result = cleaned(write, [*rows, *bad])
    assert not examine({"train": [result.output_path]}).failed(strict=True)


def test_tables_keep_their_columns(write: Write) -> None:
    path = write("train.csv", "text,label,by\n" + "".join(f"{row['text']},{row['label']},{at}\n" for at, row in enumerate(clean_rows())))
    result = clean([path], Path("clean.csv"))
    lines = result.output_path.read_text().splitlines()
    assert lines[0] == "text,label,by"
    assert len(lines) == 61


def test_nothing_left_is_an_error_and_leaves_nothing(write: Write) -> None:
    path = write("train.jsonl", [{"text": "a", "label": ""}, {"text": "b", "label": None}])
    with pytest.raises(DataError, match="no row is left of 2: 2 empty_answer"):
        clean([path], Path("clean.jsonl"))
    assert sorted(file.name for file in Path().iterdir() if file.is_file()) == ["train.jsonl"]


def test_outputs_are_not_overwritten(write: Write) -> None:
    path = write("train.jsonl", clean_rows())
    write("clean.jsonl", "mine")
    with pytest.raises(OutputError, match="is there already"):
        clean([path], Path("clean.jsonl"))
    with pytest.raises(OutputError, match="would be overwritten"):
        clean([path], path, overwrite=True)
    clean([path], Path("clean.jsonl"), overwrite=True)
    assert len(rows_of(Path("clean.jsonl"))) == 60
