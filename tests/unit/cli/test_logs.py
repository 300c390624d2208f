"""At the default level a user sees tunesmith's words and no other library's."""

from __future__ import annotations

import logging
import warnings

import pytest

from tunesmith.cli.logs import configure_logging
from tunesmith.config.command_line import parse_log_level
from tunesmith.errors import UsageError


def say(capsys: pytest.CaptureFixture[str], level: int) -> list[str]:
    configure_logging(level)
    ours, theirs = logging.getLogger("tunesmith.train"), logging.getLogger("bitsandbytes.cextension")
    theirs.setLevel(logging.DEBUG)  # a library may set a level of its own
    for number, word in ((10, "debug"), (20, "info"), (30, "warning"), (40, "error")):
        ours.log(number, "ours %s", word)
        theirs.log(number, "theirs %s", word)
    # pytest records warnings by replacing showwarning; let what configure_logging installs do it.
    warnings.showwarning("theirs warned", UserWarning, "library.py", 1)
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err.splitlines()


def test_the_default_level(capsys: pytest.CaptureFixture[str]) -> None:
    assert say(capsys, logging.INFO) == ["ours info", "ours warning", "ours error", "theirs error"]


def test_the_warning_level(capsys: pytest.CaptureFixture[str]) -> None:
    assert say(capsys, logging.WARNING) == ["ours warning", "ours error", "theirs error"]


def test_the_error_level(capsys: pytest.CaptureFixture[str]) -> None:
    assert say(capsys, logging.ERROR) == ["ours error"]


def test_the_debug_level_says_who_speaks(capsys: pytest.CaptureFixture[str]) -> None:
    said = say(capsys, logging.DEBUG)
    assert "DEBUG tunesmith.train: ours debug" in said
    assert "INFO bitsandbytes.cextension: theirs info" in said
    assert "DEBUG bitsandbytes.cextension: theirs debug" not in said
    assert any("theirs warned" in line for line in said)


def test_the_environment_of_libraries_is_set_unless_the_user_did(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.delenv("TRANSFORMERS_VERBOSITY", raising=False)
    monkeypatch.setenv("DATASETS_VERBOSITY", "info")
    configure_logging(logging.INFO)
    assert (os.environ["TRANSFORMERS_VERBOSITY"], os.environ["DATASETS_VERBOSITY"]) == ("error", "info")


@pytest.mark.parametrize(
    ("text", "level"), [("0", 10), ("1", 20), ("2", 30), ("3", 40), ("4", 50), ("info", 20), ("DEBUG", 10), ("critical", 50)]
)
def test_levels_by_number_and_name(text: str, level: int) -> None:
    assert parse_log_level(text) == level


@pytest.mark.parametrize("text", ["5", "-1", "inf", "", "1.0"])
def test_other_levels_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not 0 to 4 or one of debug, info, warning, error, critical"):
        parse_log_level(text)
