"""Running ``tunesmith`` as a user does, in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path


def environment() -> dict[str, str]:
    """The environment of a command under test."""
    return {**os.environ, "HF_HUB_OFFLINE": "1", "COLUMNS": "200", "PYTHONUNBUFFERED": "1"}  # one thread, as conftest.py says


def command(*arguments: object, cwd: Path | None = None, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run ``tunesmith`` with these arguments."""
    return subprocess.run(
        [sys.executable, "-m", "tunesmith", *map(str, arguments)],
        cwd=cwd,
        env=environment(),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=600,
    )


def take_interrupts() -> None:
    """To be run in a child before its program: a job in the background of a shell ignores Ctrl-C, and so would all that it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
