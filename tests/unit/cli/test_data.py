"""``tunesmith data …``: one command with several below it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tunesmith.cli.main import COMMANDS, main

NAMES = [name for name in COMMANDS if name.startswith("data ")]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    rows = [{"text": f"question number {at} about the {word}", "label": "ab"[at % 2]} for at, word in enumerate(WORDS)]
    Path("data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("bad.jsonl").write_text('{"text": "a", "label": "b"}\n{oops\n')
    Path("empty.jsonl").write_text("")


WORDS = ("house", "garden", "river", "mountain", "village", "kitchen", "teacher", "doctor", "market", "station", "engine", "journey")


@pytest.mark.parametrize("words", [["data"], ["data", "--help"], ["data", "-h"], ["help", "data"]])
def test_the_group_lists_its_commands(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    out = capsys.readouterr().out
    assert out.startswith("Usage: tunesmith data COMMAND")
    assert all(name in out for name in NAMES)
    assert "finetune" not in out


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_its_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*name.split(), "--help"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"Usage: tunesmith {name} ")
    assert main(["help", *name.split()]) == 0
    assert capsys.readouterr().out == out


def test_check_prints_a_summary_and_says_by_its_status_whether_there_are_errors(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", "data.jsonl"]) == 0
    assert "12 rows in 1 file, text-label rows" in capsys.readouterr().out
    assert main(["data", "check", "bad.jsonl"]) == 2
    out = capsys.readouterr().out
    assert "bad.jsonl:2  unreadable_row" in out
    assert out.splitlines()[-1].startswith("Not in order: 1 error")


def test_check_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", "data.jsonl", "bad.jsonl", "--json"]) == 2
    result: Mapping[str, Any] = json.loads(capsys.readouterr().out)
    assert (result["num_rows"], result["num_errors"], result["in_order"]) == (14, 1, False)
    (error,) = [finding for finding in result["findings"] if finding["severity"] == "error"]
    assert (error["check"], error["file"], error["row"], error["line"]) == ("unreadable_row", "bad.jsonl", 2, 2)


def test_strict_counts_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    Path("warned.jsonl").write_text(Path("data.jsonl").read_text() + '{"text": "nothing to learn", "label": ""}\n')
    assert main(["data", "check", "warned.jsonl", "--checks", "fields"]) == 0
    assert main(["data", "check", "warned.jsonl", "--checks", "fields", "--strict"]) == 2
    assert "Not in order: 0 errors, 1 warning, 0 notes" in capsys.readouterr().out


def test_a_folder_is_divided_by_the_names_of_its_files(capsys: pytest.CaptureFixture[str]) -> None:
    Path("parts").mkdir()
    lines = Path("data.jsonl").read_text().splitlines(keepends=True)
    Path("parts/train.jsonl").write_text("".join(lines))
    Path("parts/test.jsonl").write_text(lines[3])
    assert main(["data", "check", "parts", "--json"]) == 2
    assert [one["check"] for one in json.loads(capsys.readouterr().out)["findings"] if one["severity"] == "error"] == ["leaked_row"]


def test_the_other_commands_write_files_and_say_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "clean", "data.jsonl", "-o", "clean.jsonl"]) == 0
    assert "12 of 12 rows kept: clean.jsonl" in capsys.readouterr().out
    assert main(["data", "split", "clean.jsonl", "-o", "parts", "--test_fraction", "0.25"]) == 0
    assert "parts/test.jsonl" in capsys.readouterr().out
    assert main(["data", "convert", "data.jsonl", "-o", "chat.jsonl", "--to", "messages"]) == 0
    assert "12 rows, text-label to messages: chat.jsonl" in capsys.readouterr().out
    assert main(["data", "augment", "data.jsonl", "-o", "more.jsonl", "--kinds", "typos", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["made"] == {"typos": 12}
    assert {"clean.jsonl", "chat.jsonl", "more.jsonl"} <= {path.name for path in Path().iterdir()}


BAD: dict[str, tuple[list[str], str]] = {
    "unknown sub-command": (["data", "chek", "data.jsonl"], "Did you mean 'data check'?"),
    "check nothing": (["data", "check"], "no data is named"),
    "no such file": (["data", "check", "datta.jsonl"], "Did you mean 'data.jsonl'?"),
    "empty file": (["data", "check", "empty.jsonl"], "holds no row"),
    "unknown type": (["data", "check", "data.xyz"], "data.xyz"),
    "unknown check": (["data", "check", "data.jsonl", "--checks", "label"], "Did you mean 'labels'?"),
    "unknown country": (["data", "check", "data.jsonl", "--phone_region", "XX"], "--phone_region XX is no country"),
    "a file twice": (["data", "check", "data.jsonl", "--test_files", "data.jsonl"], "given twice"),
    "template without its column": (["data", "check", "data.jsonl", "--text_template", "{txt} {label}"], "Did you mean 'text'?"),
    "column to rename": (["data", "check", "data.jsonl", "--map_columns", "txt=text"], "no column 'txt'"),
    "max_seq_len of one": (["data", "check", "data.jsonl", "--max_seq_len", "1"], "--max_seq_len"),
    "clean without an output": (["data", "clean", "data.jsonl"], "--output_path is needed"),
    "clean over itself": (["data", "clean", "data.jsonl", "-o", "data.jsonl", "--overwrite"], "would be overwritten"),
    "clean to an unknown type": (["data", "clean", "data.jsonl", "-o", "data.doc"], "'.doc' can't be written"),
    "clean with another way": (["data", "clean", "data.jsonl", "-o", "c.jsonl", "--conflicts", "some"], "--conflicts"),
    "split without a folder": (["data", "split", "data.jsonl"], "--output_path is needed"),
    "split too much": (["data", "split", "data.jsonl", "-o", "p", "--test_fraction", "0.95"], "leave no rows on one side"),
    "split by what isn't there": (["data", "split", "data.jsonl", "-o", "p", "--group_by", "user"], "no column 'user'"),
    "split a broken file": (["data", "split", "bad.jsonl", "-o", "p"], "bad.jsonl:2"),
    "convert to what can't hold it": (["data", "convert", "data.jsonl", "-o", "t.jsonl", "--to", "text"], "can't tell apart"),
    "convert to an unknown format": (["data", "convert", "data.jsonl", "-o", "t.jsonl", "--to", "vicuna"], "--to"),
    "preview nothing": (["data", "preview"], "no data is named"),
    "preview with a model that isn't there": (["data", "preview", "data.jsonl", "-m", "./nowhere"], "nowhere"),
    "augment test rows": (["data", "augment", "test.jsonl", "-o", "m.jsonl"], "holds test rows by its name"),
    "augment by an unknown kind": (["data", "augment", "data.jsonl", "-o", "m.jsonl", "--kinds", "typoes"], "Did you mean 'typos'?"),
    "augment without a list": (["data", "augment", "data.jsonl", "-o", "m.jsonl", "--kinds", "synonyms"], "--synonyms_file"),
    "a list that isn't there": (["data", "augment", "data.jsonl", "-o", "m.jsonl", "--synonyms_file", "s.json"], "s.json"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_inputs_are_one_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("data.xyz").write_text("x")
    Path("test.jsonl").write_text(Path("data.jsonl").read_text())
    before = sorted(path.name for path in Path().iterdir())
    words, expected = BAD[name]
    assert main(words) == 2
    captured = capsys.readouterr()
    errors = [line for line in captured.err.splitlines() if line.startswith("tunesmith: error:")]
    assert len(errors) == 1
    assert expected in errors[0]
    assert "Traceback" not in captured.err
    assert not captured.out
    assert sorted(path.name for path in Path().iterdir() if path.name != "cache") == [name for name in before if name != "cache"]


def test_there_are_at_least_fifteen() -> None:
    assert len(BAD) >= 15


def test_a_model_says_prompts_in_other_words(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    calls: list[Mapping[str, Any]] = []

    class Rephraser:
        def generate(self, prompts: list[Any], **sampling: Any) -> list[Any]:
            calls.append(sampling)
            return [SimpleNamespace(text=f"Again: {prompt[0]['content'].rpartition('sentence only.')[2].strip()}") for prompt in prompts]

    monkeypatch.setattr("tunesmith.api.data_writing.load", lambda model: Rephraser())
    words = ["data", "augment", "data.jsonl", "-o", "more.jsonl", "--kinds", "paraphrase", "--paraphrase_model", "any", "--seed", "5"]
    assert main(words) == 0
    assert "Made: 12 paraphrase." in capsys.readouterr().out
    new = [row for row in map(json.loads, Path("more.jsonl").read_text().splitlines()) if row.get("augmented") == "paraphrase"]
    assert new[0]["text"] == "Again: question number 0 about the house"
    assert [call["seed"] for call in calls] == [5]
