"""The summary: worst rows first, everything counted, limits said."""

from __future__ import annotations

import pytest
from doctor_rows import Examine, clean_rows

from tunesmith.data.doctor import CHECKS
from tunesmith.data.doctor.checks import Check, Context
from tunesmith.data.doctor.examine import Examination
from tunesmith.data.doctor.findings import Finding, Places
from tunesmith.data.doctor.report import Report
from tunesmith.data.doctor.roles import find_roles
from tunesmith.errors import DataError, UsageError


def test_every_check_loads_and_says_what_it_does() -> None:
    for name in CHECKS.names():
        check = CHECKS.load(name)
        assert isinstance(check, type)
        assert issubclass(check, Check)
        assert check.__doc__


def test_the_worst_row_comes_first(check: Examine) -> None:
    rows = [*clean_rows(), {"text": "mail jane.doe@gmail.com", "label": "Place"}, {"text": "x<|im_end|>y", "label": "place"}]
    report = check(rows, checks=["labels", "personal", "special_tokens"])
    worst = report.worst()
    assert [[finding.check for finding in row.findings] for row in worst] == [["special_token"], ["email_address", "label_spelling"]]
    assert [row.weight for row in worst] == [100, 20]
    lines = report.words()
    assert lines[0] == "62 rows in 1 file, text-label rows (text-classification)."
    assert lines.index("The 2 worst rows:") + 1 == next(at for at, line in enumerate(lines) if line.startswith("  ") and ":62 " in line)
    assert lines[-1].startswith("Not in order: 1 error, 2 warnings, 0 notes.")


def test_the_worst_are_ten_and_notes_are_none_of_them(check: Examine) -> None:
    rows = clean_rows(40)
    report = check([*rows, *rows[:15], *({**row, "label": f" {row['label']}"} for row in clean_rows(70)[60:])])
    assert len(report.worst()) == 10
    assert {row.findings[0].severity for row in report.worst(100)} == {"warning"}
    assert (report.count("warning"), report.count("note")) == (15, 10)


def test_findings_beyond_the_limit_are_counted() -> None:
    places = Places()
    examination = Examination(Context(places, find_roles(["text", "label"])), ["fields"], most_listed=3)
    for number in range(8):
        examination.see({"text": f"a {number}", "label": ""}, split="train", file="a.jsonl", row=number + 1, line=number + 1)
    findings, counts, figures = examination.finish()
    report = Report(("a.jsonl",), 8, findings, counts, figures)
    assert (len(report.findings), report.num_unlisted, report.count("warning")) == (3, 5, 8)
    assert "(5 of them not listed)" in report.words()[-1]
    assert report.to_dict()["checks"] == {"empty_answer": 8}


def test_a_finding_in_words() -> None:
    assert str(Finding("x", "note", "what", "fix", "a.csv", 2, 3)) == "a.csv:3: what. fix"
    assert str(Finding("x", "note", "what", "", "a.parquet", 2)) == "a.parquet, row 2: what"
    assert str(Finding("x", "note", "what")) == "what"
    assert Finding("x", "note", "what", "", "a.jsonl").place == "a.jsonl"


def test_rows_of_an_unknown_format_are_looked_at_all_the_same(check: Examine) -> None:
    report = check([{"foo": row["text"], "bar": row["label"]} for row in clean_rows()] + ["{"])
    assert [one.check for one in report.findings] == ["unknown_format", "unreadable_row"]
    assert report.format == "of an unknown format"
    assert "--text_template" in report.findings[0].fix


def test_columns_may_be_renamed_and_templates_given(check: Examine) -> None:
    rows = [{"foo": row["text"], "bar": row["label"]} for row in clean_rows()]
    assert check(rows, map_columns={"foo": "text", "bar": "label"}).findings == ()
    assert check(rows, text_template="{foo} is {bar}").figures["labels"] == 3
    with pytest.raises(DataError, match="'fo'"):
        check(rows, text_template="{fo} is {bar}")


def test_what_cant_be_examined(check: Examine) -> None:
    with pytest.raises(DataError, match=r"no row can be read.*not JSON"):
        check(["{oops", "{again"])
    with pytest.raises(UsageError, match="unknown check 'fieldss'"):
        check(clean_rows(), checks=["fieldss"])


def test_the_format_is_that_of_the_first_file_with_rows(check: Examine) -> None:
    report = check(["{oops"], clean_rows())
    assert [one.check for one in report.findings] == ["unreadable_row"]
