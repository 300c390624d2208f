"""``tunesmith evaluate``."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tunesmith.cli.main import main


@dataclass(frozen=True)
class Found:
    task: str = "text-classification"
    metrics: dict[str, float] = field(
        default_factory=lambda: {"accuracy": 0.93125, "bleu": 1234.5} | {f"f1[{n}]": n / 20 for n in range(12)}
    )
    num_rows: int = 3080
    predictions_file: Path | None = Path("o/predictions.jsonl")
    speed: dict[str, float] = field(default_factory=lambda: {"seconds": 2.0, "rows_per_second": 1540.0})
    words: tuple[str, ...] = ("3 rows have no right answer and were left out.",)


@pytest.fixture
def evaluating(fake_api: Any) -> Any:
    for name in ("evaluate", "evaluate_benchmarks"):

        def call(*given: Any, _name: str = name, **options: Any) -> Found:
            fake_api._call(_name, given=given, **options)
            return Found()

        setattr(fake_api, name, call)
    return fake_api


@pytest.mark.parametrize("words", [["out", "t.jsonl"], ["-m", "out", "--data_files", "t.jsonl"]])
def test_a_test_set_is_measured(words: list[str], evaluating: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", *words, "--metrics", "accuracy,f1", "--limit", "5", "-a", "ad"]) == 0
    call = evaluating.calls["evaluate"]
    assert call["given"] == ("out", ["t.jsonl"])
    assert (list(call["metrics"]), call["limit"], call["adapter_path"], call["dtype"]) == (["accuracy", "f1"], 5, "ad", "auto")
    printed = capsys.readouterr().out
    assert printed.startswith(
        "text-classification, 3,080 rows\n  accuracy  0.9313\n  bleu      1,234\nThe lowest 10 of 12 (all: --json):\n  f1[0]"
    )
    assert "f1[10]" not in printed
    assert printed.endswith("left out.\nPredictions: o/predictions.jsonl\n")


def test_json(evaluating: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "out", "--json"]) == 0
    assert evaluating.calls["evaluate"]["given"] == ("out", None)
    found = json.loads(capsys.readouterr().out)
    assert (found["metrics"]["accuracy"], found["num_rows"], found["predictions_file"]) == (0.93125, 3080, "o/predictions.jsonl")


def test_benchmarks(evaluating: Any) -> None:
    assert main(["evaluate", "-m", "out", "--benchmarks", "a,b", "--limit", "3", "--include_path", "tasks", "--num_fewshot", "0"]) == 0
    call = evaluating.calls["evaluate_benchmarks"]
    assert call["given"] == ("out", ["a", "b"])
    assert (call["limit"], call["include_path"], call["num_fewshot"]) == (3, "tasks", 0)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--benchmarks", "a", "--metrics", "f1"], "--metrics has no effect with --benchmarks"),
        (["t.jsonl", "--num_fewshot", "2"], "--num_fewshot has no effect with a test set"),
        (["t.jsonl", "--limit", "0"], "--limit"),
        (["t.jsonl", "--metric", "f1"], "--metric is not known. Did you mean 'metrics'"),
    ],
)
def test_what_has_no_effect_is_refused(words: list[str], said: str, evaluating: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "out", *words]) == 2
    assert said in capsys.readouterr().err
    assert evaluating.calls == {}
