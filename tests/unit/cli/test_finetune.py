"""``tunesmith finetune`` hands over what was written, refuses what is wrong before anything starts, and prints the result."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tunesmith.cli.main import main


@dataclass(frozen=True)
class Example:
    prompt: str = "Sort this:\nwhere is my card"
    reference: str = "card_arrival"
    before: str = "It is\n\nhere"
    after: str = "card_arrival"


@dataclass(frozen=True)
class Result:
    output_path: Path = Path("out")
    adapter_path: Path | None = Path("out/adapter")
    model_path: Path = Path("out/model")
    metrics: dict[str, float] = field(default_factory=lambda: {"eval_loss": 0.5, "odd": float("nan")})
    words: tuple[str, ...] = ("It learnt.",)
    examples: tuple[Example, ...] = (Example(),)
    verdict: dict[str, Any] | None = None
    report_path: Path | None = None
    writes_text: bool = True


def test_everything_that_was_written_arrives(fake_api: Any) -> None:
    fake_api.result = Result()
    words = "data.jsonl --learning_rate 1e-4 -o out --gradient-checkpointing=false --no-group_by_length --target_modules q,v --log_level 2"
    assert main(["finetune", *words.split()]) == 0
    assert fake_api.calls["finetune"] == {
        "data_name": "data.jsonl",
        "learning_rate": "1e-4",
        "output_path": "out",
        "gradient_checkpointing": "false",
        "group_by_length": False,
        "target_modules": ["q", "v"],
    }


def test_the_report(fake_api: Any, capsys: pytest.CaptureFixture[str]) -> None:
    fake_api.result = Result()
    assert main(["finetune", "data.jsonl"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "Prompt:   Sort this: ⏎ where is my card",
        "  wanted: card_arrival",
        "  before: It is ⏎ here",
        "  after:  card_arrival",
        "",
        "It learnt.",
        "",
        "Adapter: out/adapter",
        "Model:   out/model",
        "Talk to it: tunesmith chat out",
    ]


def test_a_model_with_a_head_is_asked_not_talked_to(fake_api: Any, capsys: pytest.CaptureFixture[str]) -> None:
    fake_api.result = Result(output_path=Path("my run"), writes_text=False)
    assert main(["finetune", "data.jsonl"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "Ask it: tunesmith generate -m 'my run' \"…\""


def test_the_report_ends_with_the_verdict(fake_api: Any, capsys: pytest.CaptureFixture[str]) -> None:
    verdict = {"words": ["Gain: accuracy 25.0% …", "What costs nothing reaches: …"], "advice": "tunesmith diagnose out"}
    fake_api.result = Result(examples=(), verdict=verdict, report_path=Path("out/report.html"))
    assert main(["finetune", "data.jsonl"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "It learnt.",
        "",
        "Gain: accuracy 25.0% …",
        "What costs nothing reaches: …",
        "",
        "Adapter: out/adapter",
        "Model:   out/model",
        "Report:  out/report.html",
        "Next: tunesmith diagnose out",
    ]


def test_json(fake_api: Any, capsys: pytest.CaptureFixture[str]) -> None:
    fake_api.result = Result(adapter_path=None)
    assert main(["finetune", "data.jsonl", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["output_path"] == "out"
    assert found["adapter_path"] is None
    assert found["metrics"] == {"eval_loss": 0.5, "odd": None}, "NaN is no JSON"
    assert found["examples"][0]["after"] == "card_arrival"


def test_all_problems_are_one_line_and_nothing_starts(fake_api: Any, capsys: pytest.CaptureFixture[str]) -> None:
    words = "a.jsonl b.jsonl --lora_r --outputpath x --log_level 9 --lora_dropout 2 --learning_rate fast --json=maybe"
    assert main(["finetune", *words.split()]) == 2
    assert fake_api.calls == {}
    text = capsys.readouterr().err
    assert text.count("\n") == 1
    for part in (
        "unexpected argument 'b.jsonl'",
        "--lora_r needs a value",
        "--outputpath is not known. Did you mean 'output_path'?",
        "--log_level is '9', not 0 to 4",
        "--lora_dropout is 2.0: should be less than 1",
        "--learning_rate is 'fast', not a number",
        "--json is 'maybe', neither true nor false",
    ):
        assert part in text


def test_the_data_named_twice(fake_api: Any, capsys: pytest.CaptureFixture[str]) -> None:
    fake_api.result = Result()
    assert main(["finetune", "a.jsonl", "-d", "b.jsonl"]) == 2
    assert "'a.jsonl' and --data_name b.jsonl are the same option, given twice" in capsys.readouterr().err
    assert main(["finetune", "a.jsonl", "-d", "a.jsonl"]) == 0
