"""``tunesmith chat``: lines in, answers out, in a terminal and through a pipe."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest

from tunesmith.cli.main import main
from tunesmith.errors import DataError


class Session:
    """Echoes in two pieces; ``!`` is refused, ``^C`` interrupts in the middle."""

    finished = False

    def __init__(self) -> None:
        self.lines: list[str] = []

    def greeting(self) -> str:
        return "Commands: /quit."

    def respond(self, line: str) -> Iterator[str]:
        self.lines.append(line)
        if line == "/quit":
            self.finished = True
            return
        if line == "!":
            raise DataError("too long")
        yield f"[{line}"
        if line == "^C":
            raise KeyboardInterrupt
        yield "]"


class Terminal(io.StringIO):
    """Standard input that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def session(fake_api: Any) -> Session:
    fake_api.result = Session()
    return fake_api.result


def test_piped_lines_are_turns(
    session: Session, fake_api: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("one\ntwo\n"))
    assert main(["chat", "out", "-a", "ad", "--system_prompt", "Be kind.", "--temperature", "0.5"]) == 0
    assert capsys.readouterr() == ("[one]\n[two]\n", "")
    call = fake_api.calls["chat"]
    assert (call["path"], call["adapter_path"], call["system_prompt"], call["temperature"]) == ("out", "ad", "Be kind.", 0.5)


def test_quit_ends_before_the_input_does(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("one\n/quit\ntwo\n"))
    assert main(["chat"]) == 0
    assert session.lines == ["one", "/quit"]


def test_a_refused_line_does_not_end_the_conversation(
    session: Session, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("!\ntwo\n"))
    assert main(["chat"]) == 2
    assert capsys.readouterr() == ("[two]\n", "tunesmith: error: too long\n")


def test_an_interrupted_answer_does_not_end_the_conversation(
    session: Session, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("^C\ntwo\n"))
    assert main(["chat"]) == 0
    assert capsys.readouterr().out == "[^C …\n[two]\n"


def test_a_terminal_is_greeted_and_asked(session: Session, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdin", Terminal("one\n!\n"))
    assert main(["chat"]) == 0
    out, err = capsys.readouterr()
    assert err == "Commands: /quit.\ntunesmith: error: too long\n"
    assert out == "> [one]\n> > \n", "no escape sequences: a dumb terminal shows it as it is"


def test_ctrl_c_at_the_prompt_leaves(session: Session, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(prompt: str = "") -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("builtins.input", interrupted)
    monkeypatch.setattr("sys.stdin", Terminal())
    assert main(["chat"]) == 0
    assert capsys.readouterr().out == "\n"


def test_a_conversation_is_no_json(session: Session, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["chat", "--json"]) == 2
    assert "--json is not known" in capsys.readouterr().err
