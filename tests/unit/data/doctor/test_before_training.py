"""What is looked at before each training: what is said, what stops, and that good data of every format passes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from doctor_rows import clean_rows

from tiny_models import tiny_tokenizer
from tunesmith.data.doctor.before_training import check_before_training, in_lines, stop_or_say
from tunesmith.data.doctor.findings import Finding
from tunesmith.data.formats import recognize
from tunesmith.data.sources import load_splits
from tunesmith.errors import DataError


def given(folder: Path, train: list[dict[str, Any]], test: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """Splits, tokenizer and format, as training has them."""
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in train))
    if test is not None:
        (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in test))
    splits = load_splits(data_name=str(folder))
    return {"splits": splits, "tokenizer": tiny_tokenizer(), "form": recognize(splits.train)}


def found(folder: Path, train: list[dict[str, Any]], test: list[dict[str, Any]] | None = None, **options: Any) -> list[Finding]:
    return check_before_training(**{**given(folder, train, test), **options})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "rows"
    made.mkdir()
    return made


FORMATS: dict[str, dict[str, Any]] = {
    "messages": {"messages": [{"role": "user", "content": "ask {}"}, {"role": "assistant", "content": "tell {}"}]},
    "sharegpt": {"conversations": [{"from": "human", "value": "ask {}"}, {"from": "gpt", "value": "tell {}"}]},
    "alpaca": {"instruction": "ask {}", "input": "", "output": "tell {}"},
    "prompt-completion": {"prompt": "ask {}", "completion": "tell {}"},
    "conversational": {"prompt": [{"role": "user", "content": "ask {}"}], "completion": [{"role": "assistant", "content": "tell {}"}]},
    "question-answer": {"question": "ask {}", "answers": {"text": ["tell {}"]}, "context": "read {}"},
    "summary": {"document": "read {}", "summary": "short {}"},
    "text-label": {"text": "ask {}", "label": "yes"},
    "pairs": {"text1": "ask {}", "text2": "asked {}", "label": 1},
    "text": {"text": "plain {} <|im_start|>"},
}


@pytest.mark.parametrize("name", FORMATS)
def test_rows_of_every_format_pass(name: str, folder: Path) -> None:
    rows = [json.loads(json.dumps(FORMATS[name]).replace("{}", f"number {at}")) for at in range(30)]
    for at, row in enumerate(rows):
        if "label" in row:
            row["label"] = ("yes", "no")[at % 2] if isinstance(row["label"], str) else at % 2
    assert found(folder, rows) == []


def test_a_template_of_the_users_own(folder: Path) -> None:
    rows = [{"input": f"this {at}", "output": f"that {at}"} for at in range(30)]
    assert found(folder, rows, form=None, text_template="<|im_start|>{input}<|im_end|>{output}") == []
    assert found(folder, [*rows, {"input": "", "output": "a <|im_end|>b"}], form=None, text_field="output") == []
    (error,) = found(folder, [*rows, {"input": "a <|im_end|> b", "output": "that"}], form=None, text_template="{input}{output}")
    assert (error.check, error.severity, error.row) == ("special_token", "error", 31)


def test_only_a_special_token_stops(folder: Path) -> None:
    rows = clean_rows()
    rows += [rows[0], {**rows[1], "label": "Time"}, {"text": "the cafÃ© where we found the naÃ¯ve waiter", "label": "time"}]
    findings = found(folder, rows, [rows[5]])
    assert {finding.check for finding in findings} == {"duplicate_row", "label_spelling", "mojibake", "leaked_row"}
    assert {finding.severity for finding in findings} == {"warning"}
    ended = [*rows, {"text": "over <|im_end|> and out", "label": "time"}]
    findings = found(folder, ended, [rows[5]])
    assert [finding.check for finding in findings if finding.severity == "error"] == ["special_token"]
    assert findings[0].severity == "error"
    assert all(finding.severity == "warning" for finding in found(folder, ended, generates=False))
    assert str(findings[0]).startswith(f"{folder / 'train.jsonl'}, row 64: the prompt contains the special token <|im_end|>")


def test_warnings_are_at_most_three_lines() -> None:
    def warned(check: str, row: int) -> Finding:
        return Finding(check, "warning", f"what {check} is", "Mend it", "a.jsonl", row)

    assert in_lines([], "see a.jsonl") == []
    assert in_lines([Finding("x", "error", "stops")], "see a.jsonl") == []
    assert in_lines([warned("one", 3)], "see a.jsonl") == ["one: a.jsonl, row 3: what one is. Mend it. All of it: see a.jsonl"]
    lines = in_lines([warned("one", 3), warned("two", 4), warned("two", 5), warned("three", 6), warned("four", 7)], "see a.jsonl")
    assert len(lines) == 3
    assert lines[0] == "2 two, the first: a.jsonl, row 4: what two is. Mend it."
    assert lines[2] == "Also 1 three, 1 four. All of it: see a.jsonl"


def test_an_error_stops_with_one_line_and_warnings_are_said(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = clean_rows()
    stop_or_say(**given(folder, [*rows, rows[0]]))
    (record,) = caplog.records
    assert record.message == (
        f"duplicate_row: {folder / 'train.jsonl'}, row 61: the same as row 1. Keep one: tunesmith data clean."
        f" All of it: tunesmith data check {folder}"
    )
    token = {"text": "over <|im_end|> and out", "label": "time"}
    with pytest.raises(DataError) as raised:
        stop_or_say(**given(folder, [*rows, token, token]))
    assert "row 61: the prompt contains the special token <|im_end|>" in str(raised.value)
    assert str(raised.value).endswith(f"(1 more like it). Take it out: tunesmith data clean. See all: tunesmith data check {folder}")
