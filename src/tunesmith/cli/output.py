"""Results on stdout or in a file: for people, or as JSON for programs."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TextIO

from tunesmith.artifact import replaced_when_whole
from tunesmith.errors import OutputError


def to_plain(value: object) -> object:
    """Return a result as what JSON knows: dataclasses and mappings as objects, paths as text, numbers that aren't finite as null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: to_plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [to_plain(item) for item in value]
    if isinstance(value, float):
        return value if value - value == 0 else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def json_line(result: object) -> str:
    """Return a result as one line of JSON, its line break included."""
    return json.dumps(to_plain(result), ensure_ascii=False) + "\n"


def print_json(result: object) -> None:
    """Print a result as one line of JSON."""
    sys.stdout.write(json_line(result))


@contextlib.contextmanager
def open_output(path: str | None, *, overwrite: bool) -> Iterator[TextIO]:
    """Open a file for results, which appears under its name when whole; stdout when ``path`` is None.

    Raises:
        OutputError: when the file is there already and ``overwrite`` is off, is a folder, or can't be written.
    """
    if path is None:
        yield sys.stdout
        return
    final = Path(path).expanduser()
    if final.is_dir():
        raise OutputError(f"--output_path {path} is a folder", fix="Name a file.")
    if final.exists() and not overwrite:
        raise OutputError(f"{path} is there already", fix="Choose another --output_path, or replace it with --overwrite.")
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"the folder of --output_path {path} can't be made: {error.strerror}", fix="Choose another one.") from error
    with replaced_when_whole(final) as temporary, open(temporary, "w", encoding="utf-8") as file:
        yield file
