"""Code of the user's own, named as ``FILE.py:NAME``: a metric, a loss, a model by script."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from tunesmith.errors import UsageError, nearest


def split_name(written: str) -> tuple[str, str]:
    """Return file and name of ``FILE.py:NAME``; the name is empty where there is none."""
    file, _, name = written.rpartition(":") if ".py:" in written else (written, "", "")
    return file, name


def run_file(file: Path, what: str, *, fix: str) -> ModuleType:
    """Return the module that a Python file makes; its code is run.

    Args:
        file: of the user's.
        what: names it in errors, such as ``--loss losses.py:Mine``.
        fix: how to write it, where there is no such file.

    Raises:
        UsageError: when there is no such file, or its code raises anything.
    """
    if not file.is_file():
        raise UsageError(f"{what}: there is no file {file}", fix=fix)
    spec = importlib.util.spec_from_file_location(f"tunesmith_user_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickling look their module up there
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        message = f"{what}: {file} can't be run: {type(error).__name__}: {error}"
        raise UsageError(message, fix=f"Try: python {file}") from error
    return module


def load_function(written: str, what: str) -> Any:
    """Return the function that ``FILE.py:FUNCTION`` names; the file's code is run.

    Args:
        written: what the user wrote.
        what: names it in errors, such as ``the metric costs.py:per_error``.

    Raises:
        UsageError: when no function is named, or the file is missing, can't be run, or has none of this name.
    """
    file, name = split_name(written)
    if not name:
        raise UsageError(f"{what} names a file but no function", fix=f"Write {file}:FUNCTION")
    module = run_file(Path(file).expanduser(), what, fix="Check the path")
    found = getattr(module, name, None)
    if not callable(found):
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise UsageError(f"{file} has no function '{name}'; it has: {', '.join(known) or 'none'}", fix=nearest(name, known) or None)
    return found
