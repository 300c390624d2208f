"""``tunesmith rate``."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tunesmith.cli.main import main
from tunesmith.evaluate.rating.summary import RaterProgress, RatingSummary

SUMMARY = RatingSummary("pairs", ("a", "b"), 4, 1, (RaterProgress("Ada", 1, 4),), (), (), None, ())


@pytest.fixture
def rated(fake_api: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The fake with a rating that one vote was given in."""

    def rate(output_path: str, *, ready: Any, **given: Any) -> RatingSummary | None:
        fake_api.calls["rate"] = {"output_path": output_path, **given}
        ready("http://127.0.0.1:1/?token=x")
        return fake_api.result

    fake_api.result = SUMMARY
    monkeypatch.setattr(fake_api, "rate", rate, raising=False)
    monkeypatch.setattr(fake_api, "rating_summary", lambda path: (SUMMARY, f"{path}/export.jsonl"), raising=False)
    return fake_api


def test_the_link_and_the_result_are_printed(rated: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rate", "--data_files", "p.jsonl", "--models", "a,b", "--scale", "1-5", "-o", "r", "--port", "80"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "Rate here: http://127.0.0.1:1/?token=x",
        "One rater: how far raters agree is not known.",
        "1 vote on 4 prompts; rated so far: Ada 1 of 4.",
    ]
    call = rated.calls["rate"]
    assert (call["data_files"], call["models"], call["scale"], call["port"]) == (("p.jsonl",), ("a", "b"), "1-5", 80)
    assert (call["output_path"], call["dtype"], call["max_new_tokens"]) == ("r", "auto", None)


def test_json(rated: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rate", "--json"]) == 0
    link, result = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert link == {"link": "http://127.0.0.1:1/?token=x"}
    assert (result["num_votes"], result["raters"][0]["name"]) == (1, "Ada")
    assert main(["rate", "--summary", "--json", "-o", "r"]) == 0
    assert json.loads(capsys.readouterr().out)["export"] == "r/export.jsonl"


def test_nobody_has_rated(rated: Any, capsys: pytest.CaptureFixture[str]) -> None:
    rated.result = None
    assert main(["rate"]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == ["Nobody has rated yet."]


def test_the_summary_serves_nothing(rated: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rate", "--summary"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "Everything, a line a prompt: ratings/export.jsonl"
    assert "rate" not in rated.calls


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--summary", "--port", "1", "--models", "a,b"], "--models, --port has no effect with --summary"),
        (["--scale", "1-10"], "--scale"),
        (["--port", "70000"], "--port is 70000: should be less than or equal to 65535"),
        (["--max_samples", "0"], "--max_samples is 0"),
        (["--model", "a"], "--model is not known. Did you mean 'models'?"),
    ],
)
def test_wrong_words(words: list[str], text: str, rated: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rate", *words]) == 2
    assert text in capsys.readouterr().err
    assert "rate" not in rated.calls
