"""``tunesmith.report`` and ``tunesmith.evaluate`` can be called, whichever of function and package Python bound to the name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOMS = {"report": "tunesmith.report.run_files", "evaluate": "tunesmith.evaluate.verdict"}


def said(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize("name", sorted(ROOMS))
@pytest.mark.parametrize("order", ["first", "last", "never"])
def test_whatever_was_imported_before(name: str, order: str, tmp_path: Path) -> None:
    use = f"import tunesmith, inspect; before = tunesmith.{name}"
    lines = {"first": [f"import {ROOMS[name]}", use], "last": [use, f"import {ROOMS[name]}"], "never": [use]}[order]
    asks = f"from tunesmith.errors import UserError\nfor function in (before, tunesmith.{name}):\n    try:\n"
    calls = f"        function({str(tmp_path / 'none')!r})\n    except UserError as error:\n        print(str(error)[:20])\n"
    arguments = f"print(list(inspect.signature(tunesmith.{name}).parameters)[0])"
    answers = said("\n".join([*lines, asks + calls, arguments])).splitlines()
    assert answers[0] == answers[1]
    assert answers[2] == {"report": "runs", "evaluate": "path"}[name]


@pytest.mark.parametrize("name", sorted(ROOMS))
def test_its_modules_stay_in_reach(name: str) -> None:
    module = ROOMS[name].rpartition(".")[2]
    assert said(f"import tunesmith; tunesmith.{name}; import {ROOMS[name]}; print(tunesmith.{name}.{module}.__name__)") == ROOMS[name]
    assert said(f"from tunesmith import {name}; import {ROOMS[name]}; print({name}.__module__)").startswith("tunesmith.api")
    assert said(f"from tunesmith.{name} import {module}; print({module}.__name__)") == ROOMS[name]
