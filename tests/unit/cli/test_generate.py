"""``tunesmith generate``: prompts from an argument, standard input and files; answers to stdout and files."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from tunesmith.cli.main import main


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_prompt_is_streamed(fake_api: Any, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["-m", "out", "-a", "ad", "--temperature", "0.7", "--top-p=.9", "--seed", "3", "--threads", "2"]
    assert main(["generate", "say hello", *words]) == 0
    assert capsys.readouterr().out == "SAY HELLO \n"
    assert fake_api.calls["load"] == {
        "path": "out",
        "adapter_path": "ad",
        "revision": None,
        "token": None,
        "dtype": "auto",
        "device": "auto",
        "trust_remote_code": False,
        "threads": 2,
    }
    assert fake_api.runtime.calls == [{"prompts": ["say hello"], "max_new_tokens": 256, "temperature": 0.7, "top_p": 0.9, "seed": 3}]


def test_two_words_are_model_and_prompt(fake_api: Any) -> None:
    assert main(["generate", "out", "hello"]) == 0
    assert fake_api.calls["load"]["path"] == "out"
    assert fake_api.runtime.calls[0]["prompts"] == ["hello"]


def test_json(fake_api: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "hello", "--json"]) == 0
    assert lines(capsys.readouterr().out) == [{"prompt": "hello", "generated": "HELLO", "stopped": True, "num_tokens": 2}]


def test_answers_are_held_to_a_schema_or_to_nothing(fake_api: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "hello", "--answer_schema", "s.json"]) == 0
    assert fake_api.calls["read_schema"] == {"file": "s.json"}
    assert main(["generate", "hello", "--no-constrain"]) == 0
    fake_api.rows = [{"text": "a"}]
    assert main(["generate", "--data_files", "a.jsonl", "--constrain", "false"]) == 0
    assert [call["schema"] for call in fake_api.runtime.calls if "schema" in call] == [{"type": "integer"}, None, None]
    assert main(["generate", "hello", "--answer_schema", "s.json", "--no-constrain"]) == 2
    assert "--answer_schema holds answers to a schema, --no-constrain to none" in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["-"]])
def test_the_prompt_from_standard_input(words: list[str], fake_api: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("two\nlines\n"))
    assert main(["generate", *words, "-m", "out"]) == 0
    assert fake_api.runtime.calls[0]["prompts"] == ["two\nlines"]


def test_an_empty_standard_input_is_refused(fake_api: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(" \n"))
    assert main(["generate"]) == 2
    assert "the prompt on standard input is empty" in capsys.readouterr().err
    assert "load" not in fake_api.calls


def test_a_terminal_without_a_prompt_is_refused(fake_api: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdin", terminal)
    assert main(["generate"]) == 2
    assert "there is no prompt" in capsys.readouterr().err


def test_a_file_of_rows_becomes_json_lines(fake_api: Any, tmp_path: Path) -> None:
    fake_api.rows = [{"text": f"row {number}", "label": "x"} for number in range(70)]
    out = tmp_path / "new" / "answers.jsonl"
    words = ["generate", "--data_files", "a.jsonl", "b.jsonl", "--text_field", "text", "-o", str(out), "--batch_size", "4"]
    assert main(words) == 0
    found = lines(out.read_text(encoding="utf-8"))
    assert len(found) == 70
    assert found[69] == {"text": "row 69", "label": "x", "generated": "ROW 69", "stopped": True, "num_tokens": 2}
    assert fake_api.calls["read_rows"] == {"files": ("a.jsonl", "b.jsonl"), "max_samples": None}
    assert [len(call["prompts"]) for call in fake_api.runtime.calls] == [64, 6]
    assert fake_api.runtime.calls[0]["batch_size"] == 4
    assert list(out.parent.iterdir()) == [out]


def test_what_of_a_row_is_the_prompt(fake_api: Any) -> None:
    fake_api.rows = [{"prompt": "alone"}, {"a": "1", "b": "2"}, {"messages": [{"role": "user", "content": "x"}]}]
    assert main(["generate", "--data_files", "a.jsonl", "--max_samples", "3"]) == 0
    assert fake_api.runtime.calls[0]["prompts"] == ["alone", {"a": "1", "b": "2"}, {"messages": [{"role": "user", "content": "x"}]}]


def test_a_missing_column_is_refused_and_leaves_no_file(fake_api: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fake_api.rows = [{"question": "a"}]
    assert main(["generate", "--data_files", "a.jsonl", "--text_field", "text", "-o", str(tmp_path / "x")]) == 2
    assert "a row has no column 'text'; it has: question" in capsys.readouterr().err
    assert "load" not in fake_api.calls, "a model is loaded only for what can be answered"
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_is_kept_without_overwrite(fake_api: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "answers.txt"
    out.write_text("mine")
    assert main(["generate", "hello", "-o", str(out)]) == 2
    assert "is there already" in capsys.readouterr().err
    assert out.read_text() == "mine"
    assert main(["generate", "hello", "-o", str(out), "--overwrite"]) == 0
    assert out.read_text() == "HELLO \n"
    assert main(["generate", "hello", "-o", str(tmp_path)]) == 2
    assert "is a folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["hello", "--data_files", "x"], "a prompt ('hello') and --data_files are given"),
        (["hello", "--max_samples", "3", "--text_field", "x"], "--text_field, --max_samples speaks of --data_files"),
        (["hello", "--temperature", "-1"], "--temperature is -1.0: should be greater than or equal to 0"),
        (["hello", "--top_p", "0"], "--top_p is 0.0: should be greater than 0"),
        (["a", "b", "c"], "unexpected argument 'c'"),
        (["hello", "--temprature", "1"], "--temprature is not known. Did you mean 'temperature'?"),
        (["hello", "--learning_rate", "1"], "--learning_rate is not known"),
    ],
)
def test_wrong_words(words: list[str], text: str, fake_api: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", *words]) == 2
    assert text in capsys.readouterr().err
    assert fake_api.calls == {}
