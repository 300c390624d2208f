"""What the tests through the public command share: a tiny model folder, small data files, and the command itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_models import save_tiny

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama with its tokenizer, as a folder."""
    return save_tiny("llama", tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty rows of text and label."""
    file = tmp_path_factory.mktemp("data") / "colours.jsonl"
    names = ("red", "green", "blue")
    rows = [{"text": f"thing number {number} in the shop", "label": names[number % 3]} for number in range(60)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def environment() -> dict[str, str]:
    """The environment of a command under test."""
    return {**os.environ, "HF_HUB_OFFLINE": "1", "COLUMNS": "200", "PYTHONUNBUFFERED": "1"}


@pytest.fixture(scope="session")
def command() -> Command:
    """Run ``tunesmith`` as a user does, in a process of its own."""

    def run(*arguments: object, cwd: Path | None = None, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "tunesmith", *map(str, arguments)],
            cwd=cwd,
            env=environment(),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=600,
        )

    return run
