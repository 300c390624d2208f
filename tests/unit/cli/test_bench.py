"""``tunesmith bench`` and ``tunesmith tune-session-params``: what they print, and what they refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tunesmith import api
from tunesmith.cli.main import main
from tunesmith.evaluate.bench import BenchResult
from tunesmith.evaluate.session_search import TunedSession


def result(path: str, **changes: Any) -> BenchResult:
    values = {
        "path": path,
        "kind": "onnx",
        "size_mb": 86.5,
        "load_s": 0.5,
        "memory_mib": 150.0,
        "prompt_tokens": 256,
        "new_tokens": 64,
        "num_repeats": 5,
        "prefill_tokens_per_s": 1300.0,
        "decode_tokens_per_s": 88.0,
        "first_token_ms": {"p50": 200.0, "p90": 210.0, "max": 230.0},
        "token_ms": {"p50": 11.0, "p90": 12.0, "p99": 14.0},
    }
    return BenchResult(**{**values, **changes})


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    seen: dict[str, Any] = {}

    def fake(artifacts: list[str], **options: Any) -> list[BenchResult]:
        seen.update(options, artifacts=artifacts)
        return [result(path) if path == "int4" else result(path, kind="torch", decode_tokens_per_s=None, token_ms={}) for path in artifacts]

    monkeypatch.setattr(api, "bench", fake)
    return seen


def test_artifacts_stand_side_by_side(asked: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "int4", "run", "--repeats", "3", "--threads", "2"]) == 0
    assert (asked["artifacts"], asked["repeats"], asked["threads"]) == (["int4", "run"], 3, 2)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["int4", "run"]
    assert lines[1].split() == ["run", "by", "onnx", "torch"]
    assert "prefill, tokens/s         1,300.0  1,300.0" in lines
    assert next(line for line in lines if line.startswith("decode")).split() == ["decode,", "tokens/s", "88.0"]


def test_programs_get_json(asked: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "int4", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["decode_tokens_per_s"] == 88.0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["bench"], "there is nothing to measure"),
        (["bench", "int4", "--repeats", "0"], "--repeats"),
        (["tune-session-params"], "--artifact is needed"),
        (["tune-session-params", "absent"], "absent has no genai_config.json"),
    ],
)
def test_what_is_refused(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("written", [True, False])
def test_what_a_search_found(written: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    trials = (({"intra_op_num_threads": 1}, 0.25),)
    found = TunedSession(Path("int4"), {"intra_op_num_threads": 1}, 0.12 if written else 0.0, written, trials)
    monkeypatch.setattr(api, "tune_session_params", lambda artifact, **_: found)
    assert main(["tune-session-params", "int4"]) == 0
    out = capsys.readouterr().out
    assert "0.250 s  intra_op_num_threads=1" in out
    assert ("Faster by 12 % than before; written into" in out) == written
    assert ("it is unchanged" in out) == (not written)
