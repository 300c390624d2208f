"""Every error is one line with the right exit status; every command is found, or its nearest neighbour named."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tunesmith.cli.main import COMMANDS, find_command, main
from tunesmith.errors import DataError, TunesmithError


def errors(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("tunesmith: error: ")
    return captured.err.removeprefix("tunesmith: error: ").strip()


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["help"], ["help", "--help"]])
def test_the_help_lists_every_command(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    out = capsys.readouterr().out
    assert all(f"\n  {name} " in out and summary in out for name, (_, summary) in COMMANDS.items())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_its_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    texts = []
    for words in ([name, "--help"], [name, "-h"], ["help", name], [name, "--lora_r", "x", "--help"]):
        assert main(words) == 0
        texts.append(capsys.readouterr().out)
    assert len(set(texts)) == 1
    assert texts[0].startswith(f"Usage: tunesmith {name}")
    assert find_command(name).name == name


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    import tunesmith

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"tunesmith {tunesmith.__version__}\n"


@pytest.mark.parametrize("words", [["finetun", "x"], ["help", "finetun"]])
def test_an_unknown_command_names_the_nearest(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    text = errors(capsys)
    assert "unknown command 'finetun'" in text
    assert text.endswith("Did you mean 'finetune'?")


def test_a_flag_before_the_command_is_put_right(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--log_level", "2", "finetune", "x"]) == 2
    assert errors(capsys) == "--log_level stands before the command. Flags come behind it: tunesmith COMMAND [options]"


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (DataError("no such\ncolumn", file="d.jsonl", row=3, fix="Rename it."), 2, "d.jsonl: row 3: no such column. Rename it."),
        (TunesmithError("ours"), 1, "ours"),
        (OSError(errno.ENOSPC, "No space left on device", "/x/y"), 2, "the disk is full: /x/y. Free some space, or choose another folder"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), 2, "permission denied: /x"),
        (ValueError("two\nlines"), 1, "internal error: ValueError: two lines; run with --debug for the traceback"),
        (MemoryError(), 2, "memory ran out. Try a smaller --batch_size, a smaller model or a shorter input"),
        (OSError("odd"), 1, "internal error: OSError: odd; run with --debug for the traceback"),
    ],
)
def test_errors_become_one_line(error: BaseException, status: int, text: str, fake_api: Any, capsys: pytest.CaptureFixture[str]) -> None:
    fake_api.error = error
    assert main(["finetune", "data.jsonl"]) == status
    assert errors(capsys) == text


@pytest.mark.parametrize(
    ("message", "shown"), [("", "interrupted"), ("stopped at step 3;\ngo on with …", "stopped at step 3; go on with …")]
)
def test_an_interrupt_is_one_line_and_no_error(message: str, shown: str, fake_api: Any, capsys: pytest.CaptureFixture[str]) -> None:
    fake_api.error = KeyboardInterrupt(message) if message else KeyboardInterrupt()
    assert main(["finetune", "data.jsonl"]) == 130
    assert capsys.readouterr() == ("", f"tunesmith: {shown}\n")


@pytest.mark.parametrize("words", [["--debug", "finetune", "x"], ["finetune", "x", "--debug"]])
def test_debug_shows_the_traceback(words: list[str], fake_api: Any, capsys: pytest.CaptureFixture[str]) -> None:
    fake_api.error = ValueError("boom")
    assert main(words) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert "ValueError: boom\n" in err


def test_debug_switched_off_stays_off(fake_api: Any, capsys: pytest.CaptureFixture[str]) -> None:
    fake_api.error = ValueError("boom")
    assert main(["finetune", "x", "--debug=false"]) == 1
    assert "Traceback" not in capsys.readouterr().err


def test_the_environment_shows_the_traceback(fake_api: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    fake_api.error = ValueError("boom")
    monkeypatch.setenv("TUNESMITH_DEBUG", "1")
    main(["finetune", "x"])
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="Windows has no /bin/sh and no broken pipes of this kind")
def test_a_reader_that_stops_early_is_no_error(tmp_path: Path) -> None:
    command = f'"{sys.executable}" -m tunesmith finetune --help_training 2>{tmp_path}/err | head -c 10 >/dev/null'
    subprocess.run(["/bin/sh", "-c", command], check=True)
    assert (tmp_path / "err").read_text() == ""


def test_any_text_can_be_printed_whatever_the_locale() -> None:
    code = r"from tunesmith.cli import main as m; m._dispatch = lambda words: print('\u2192', words[0], '\udcff') or 0; m.main()"
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", code, "x"], capture_output=True, env=environment, check=False)
    assert done.stderr == b""
    assert done.stdout.decode("utf-8").startswith("→ x ?")
