"""``tunesmith compare``, ``report`` and ``diagnose`` hand over what was written and print what they are given."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

import tunesmith
from tunesmith.cli.main import main
from tunesmith.evaluate.verdict import decide
from tunesmith.report.diagnose import Diagnosis, Finding

VERDICT = decide("accuracy", [0.0] * 20, [1.0] * 20)


class FakeApi:
    """Records calls, and returns what is true of nothing."""

    def __init__(self) -> None:
        self.calls: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {}

    def compare(self, *models: str, **given: Any) -> Any:
        self.calls["compare"] = (models, given)
        return VERDICT

    def report(self, *runs: str, **given: Any) -> Path:
        self.calls["report"] = (runs, given)
        return Path("out/report.html")

    def diagnose(self, run: str) -> Diagnosis:
        self.calls["diagnose"] = ((run,), {})
        findings = (Finding("data", "good", "Fine."), Finding("rank", "likely", "Too small.", change=(("lora_r", "64"),)))
        return Diagnosis(findings, "Most likely: rank. Too small.", "tunesmith finetune --lora_r 64")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeApi:
    found = FakeApi()
    monkeypatch.setitem(sys.modules, "tunesmith.api", found)  # type: ignore[arg-type]
    monkeypatch.setattr(tunesmith, "api", found, raising=False)
    return found


def test_compare(fake: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "a", "b", "--data_files", "x.jsonl,y.jsonl", "--max_samples", "50", "--torch-dtype", "float32"]) == 0
    models, given = fake.calls["compare"]
    assert models == ("a", "b")
    assert given["data_files"] == ("x.jsonl", "y.jsonl")
    assert (given["max_samples"], given["dtype"], given["metric"]) == (50, "float32", None)
    assert capsys.readouterr().out.splitlines() == list(VERDICT.words)


def test_compare_as_json(fake: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "--models", "a,b", "--data_files", "x.jsonl", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["outcome"], found["interval"]) == ("gain", [1.0, 1.0])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a", "--data_files", "x"], "two models are compared, 1 is named"),
        (["a", "b", "c", "--data_files", "x"], "two models are compared, 3 are named"),
        (["a", "b"], "--data_files is needed"),
        ([], "two models are compared, 0 are named; --data_files is needed"),
        (["a", "b", "--data_files", "x", "--max_samples", "0"], "--max_samples is 0"),
        (["a", "b", "--data_file", "x"], "Did you mean 'data_files'?"),
    ],
)
def test_compare_refuses(fake: FakeApi, capsys: pytest.CaptureFixture[str], words: list[str], said: str) -> None:
    assert main(["compare", *words]) == 2
    text = capsys.readouterr().err
    assert said in text
    assert text.count("\n") == 1
    assert not fake.calls


def test_report(fake: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "one", "two", "-o", "runs.html", "--overwrite"]) == 0
    assert fake.calls["report"] == (("one", "two"), {"output_path": "runs.html", "ratings": (), "overwrite": True})
    assert capsys.readouterr().out == "Report: out/report.html\n"
    assert main(["report", "one", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"report_path": "out/report.html"}
    assert main(["report"]) == 2
    assert "no run is named" in capsys.readouterr().err


def test_diagnose(fake: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diagnose", "out"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "ok  data  Fine.",
        " !  rank  Too small.",
        "",
        "Most likely: rank. Too small.",
        "Next: tunesmith finetune --lora_r 64",
    ]
    assert main(["diagnose", "out", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["findings"][1]["change"] == [["lora_r", "64"]]
    assert main(["diagnose"]) == 2
    assert main(["diagnose", "a", "b"]) == 2
