"""JSON in the shapes that people have: lines, a list, ``{"data": [...]}``; with the line and row of whatever is wrong.

`datasets` reads JSON lines fast. What it can't read, or would change (it turns texts that look like dates into dates, and stops at a
column that is empty for long), is read here, row by row, in little memory.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from tunesmith.data.cache import CHUNK_BYTES
from tunesmith.data.inspection import open_bytes
from tunesmith.errors import DataError

if TYPE_CHECKING:
    from datasets import Features

Row = dict[str, Any]

#: Keys under which a JSON object may hold its rows.
CONTAINERS = ("data", "rows", "train", "examples", "records", "items", "instances")
_LINE_FIX = 'Write one JSON object a line, e.g. {"text": "…", "label": "…"}'


def json_shape(path: Path) -> str:
    """Return how a JSON file is laid out: ``lines``, ``list`` or ``object`` (one object that spans the file)."""
    with open_bytes(path) as file:
        head = _first_line(file)
        if head.startswith("["):
            return "list"
        try:
            first = json.loads(head)
        except (ValueError, RecursionError):
            return "object" if head.rstrip() in ("{", "") or not head.rstrip().endswith("}") else "lines"
        if isinstance(first, dict) and _container(first) and not _first_line(file):
            return "object"
        return "lines"


def _first_line(file: IO[bytes]) -> str:
    """Return the next line that isn't blank, without a byte order mark; a list's line only by its beginning."""
    for line in iter(lambda: file.readline(64 * CHUNK_BYTES), b""):
        text = line.decode("utf-8-sig", errors="replace").strip()
        if text:
            return text
    return ""


def _container(value: Row) -> str | None:
    """Return the key under which an object holds rows, None when it is a row itself."""
    for key in CONTAINERS:
        rows = value.get(key)
        if isinstance(rows, list) and rows and all(isinstance(row, dict) for row in rows):
            return key
    return None


def iterate_json(path: Path, shape: str) -> Iterator[Row]:
    """Yield the rows of a JSON file one by one.

    Raises:
        DataError: naming the line or row that is not JSON or no object.
    """
    readers: dict[str, Callable[[Path], Iterator[Row]]] = {"lines": _lines, "list": _list, "object": _object}
    return readers[shape](path)


def _lines(path: Path) -> Iterator[Row]:
    with open_bytes(path) as file:
        for number, line in enumerate(file, start=1):
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
            if not text:
                continue
            try:
                value = json.loads(text)
            except (ValueError, RecursionError) as error:
                raise DataError(f"line {number} is not JSON: {error}", file=str(path), fix=_LINE_FIX) from error
            if not isinstance(value, dict):
                raise DataError(f"line {number} is {_kind(value)}, not an object", file=str(path), fix=_LINE_FIX)
            yield value


def _list(path: Path) -> Iterator[Row]:
    """Read a list element by element, without ever holding the whole file."""
    decoder = json.JSONDecoder()
    with open_bytes(path) as file:
        buffer, row, line = "", 0, 1
        chunks = _decoded(file)
        buffer = next(chunks, "").lstrip()[1:]
        while True:
            stripped = buffer.lstrip(" \t\r\n,") if row else buffer.lstrip()
            line += buffer[: len(buffer) - len(stripped)].count("\n")
            buffer = stripped
            if buffer.startswith("]"):
                return
            try:
                value, end = decoder.raw_decode(buffer)
            except (ValueError, RecursionError) as error:
                more = next(chunks, None)
                if more is None:
                    place = f"row {row + 1}, near line {line}"
                    reason = "the list isn't closed" if not buffer else str(error)
                    raise DataError(f"{place}: not JSON: {reason}", file=str(path), fix="Mend the file there") from error
                buffer += more
                # A row longer than a chunk: read in growing steps, so that parsing again stays cheap.
                while len(more) < len(buffer) // 2 and (extra := next(chunks, None)) is not None:
                    more += extra
                    buffer += extra
                continue
            row += 1
            if isinstance(value, str):
                value = {"text": value}
            if not isinstance(value, dict):
                raise DataError(f"it is {_kind(value)}, not an object", file=str(path), row=row, fix="Write a list of objects")
            yield value
            line += buffer[:end].count("\n")
            buffer = buffer[end:]


def _decoded(file: IO[bytes]) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    for chunk in iter(lambda: file.read(CHUNK_BYTES), b""):
        yield decoder.decode(chunk)


def _object(path: Path) -> Iterator[Row]:
    with open_bytes(path) as file:
        text = file.read().decode("utf-8-sig")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _neither(path, error) from error
    key = _container(value) if isinstance(value, dict) else None
    if key is not None:
        yield from value[key]
        return
    keys = ", ".join(list(value)[:8]) if isinstance(value, dict) else _kind(value)
    raise DataError(
        f"the file is one JSON object (keys: {keys}), not a list of rows",
        file=str(path),
        fix=f'Write [{{…}}, {{…}}], one object a line, or {{"data": [{{…}}]}} (also: {", ".join(CONTAINERS[1:])})',
    )


def _neither(path: Path, error: ValueError | RecursionError) -> DataError:
    """Say where a file that is neither lines nor one JSON value goes wrong: where its lines do, when the first is a row."""
    try:
        for _ in _lines(path):
            pass
    except DataError as found:
        if not found.message.partition(": ")[2].startswith("line 1 "):
            return found
    return DataError(f"the file is not JSON: {error}", file=str(path), fix=_LINE_FIX)


def _kind(value: object) -> str:
    kinds = {list: "a list", str: "a text", bool: "true or false", int: "a number", float: "a number", dict: "an object"}
    return "null" if value is None else kinds.get(type(value), type(value).__name__)


class ColumnTypes:
    """What the values of each column are, over all rows seen."""

    def __init__(self) -> None:
        self.seen: dict[str, set[str]] = {}

    def add(self, row: Row) -> None:
        """Take note of a row's types."""
        for name, value in row.items():
            self.seen.setdefault(name, set()).add(self._type(value))

    @staticmethod
    def _type(value: object) -> str:
        if value is None:
            return "null"
        if isinstance(value, list):
            return "texts" if all(isinstance(item, str) for item in value) else "structure"
        if isinstance(value, int) and not isinstance(value, bool):
            return "int" if -(2**63) <= value < 2**63 else "structure"
        return {str: "text", bool: "bool", float: "float"}.get(type(value), "structure")

    def mixed(self) -> list[str]:
        """Return the columns that hold texts and something else."""
        return [name for name, types in self.seen.items() if "text" in types and types - {"text", "null"}]

    def features(self) -> Features:
        """Return the columns' types; what has no type in common is text (JSON, where it isn't text already)."""
        from datasets import Features, List, Value

        known = {
            frozenset({"int"}): Value("int64"),
            frozenset({"float"}): Value("float64"),
            frozenset({"int", "float"}): Value("float64"),
            frozenset({"bool"}): Value("bool"),
            frozenset({"texts"}): List(Value("string")),
        }
        return Features({name: known.get(frozenset(types - {"null"}), Value("string")) for name, types in self.seen.items()})


def fit_row(row: Row, features: Features) -> Row:
    """Return a row's values as the types of ``features``: whatever a text column holds becomes text."""
    fitted: Row = {}
    for name, feature in features.items():
        value = row.get(name)
        is_text = getattr(feature, "dtype", None) == "string"
        fitted[name] = json.dumps(value, ensure_ascii=False) if is_text and value is not None and not isinstance(value, str) else value
    return fitted
