"""Records that are kept as JSON beside weights: read back in one way, with one line for whatever is wrong with the file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from tunesmith.errors import DataError, ModelError

T = TypeVar("T")


def read_record(file: Path, parse: Callable[[Any], T], *, fix: str = "Restore the folder from a copy") -> T | None:
    """Return what a file holds, None where there is none.

    Args:
        file: JSON that was written by us.
        parse: plain values to the record; what it raises over values that aren't there or of the wrong type is said as the file's fault.
        fix: how to get a file that can be read.

    Raises:
        ModelError: for a file that can't be read.
    """
    if not file.is_file():
        return None
    try:
        return parse(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, AttributeError, KeyError, DataError) as error:
        raise ModelError(f"{file} can't be read: {error}", fix=fix) from error
