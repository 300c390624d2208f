"""Rows of files one by one, with every row that can't be read named, instead of stopping at the first as training's reader does."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith.data.doctor.findings import Finding
from tunesmith.data.inspection import check_exists, kind_of, look_at, open_bytes
from tunesmith.data.json_rows import iterate_json, json_shape
from tunesmith.errors import DataError

#: A cell of a table may be as long as a document; csv's own limit is 128 KiB.
MOST_CELL_BYTES = 1 << 28
_LINE_FIX = 'Write one JSON object a line, e.g. {"text": "…", "label": "…"}'
_UTF8_FIX = "Save the file as UTF-8, or mend it: tunesmith data clean"


@dataclass(frozen=True)
class FileRow:
    """A row that could be read: its number from 1, its line in a text file, and its columns."""

    row: int
    line: int | None
    values: dict[str, Any]


def read_rows(path: Path) -> Iterator[FileRow | Finding]:
    """Yield the rows of a file in order, and a finding in the place of each that can't be read.

    Args:
        path: JSON (lines, a list, an object that holds one), CSV, TSV, text (``.gz`` too), Parquet or Arrow.

    Raises:
        DataError: when there is no such file, or its type isn't known.
    """
    check_exists(path)
    kind = kind_of(path)
    if kind is None:
        look_at(path)  # raises, with the types that are known
    if kind in ("parquet", "arrow"):
        yield from _columnar(path)
        return
    try:
        yield from {"json": _json, "csv": _table, "text": _text}[kind or "text"](path)
    except (OSError, EOFError) as error:  # a .gz that is none or was cut off; a file that went away
        yield Finding("unreadable_row", "error", f"the file can't be read: {error}", "Restore it from a copy", str(path))


def _json(path: Path) -> Iterator[FileRow | Finding]:
    shape = json_shape(path)
    # In a file of lines, a first line that is broken must not make one object of all.
    if shape == "lines" or (shape == "object" and {".jsonl", ".ndjson"} & set(path.suffixes)):
        yield from _json_lines(path)
        return
    row = 0
    try:
        for row, values in enumerate(iterate_json(path, shape), start=1):
            yield FileRow(row, None, values)
    except DataError as error:
        yield Finding("unreadable_row", "error", _without_place(error, path), error.fix or "", str(path), row + 1)
    except UnicodeDecodeError as error:
        yield Finding("wrong_encoding", "error", f"what follows is not UTF-8 ({error.reason})", _UTF8_FIX, str(path), row + 1)


def _without_place(error: DataError, path: Path) -> str:
    message = error.message.removeprefix(f"{path}: ")
    return message.removeprefix(f"row {error.row}: ") if error.row is not None else message


def _json_lines(path: Path) -> Iterator[FileRow | Finding]:
    row = 0
    with open_bytes(path) as file:
        for line, content in enumerate(file, start=1):
            if not content.strip():
                continue
            row += 1
            found = _json_line(content, first=line == 1)
            if isinstance(found, tuple):
                check, message = found
                fix = _UTF8_FIX if check == "wrong_encoding" else _LINE_FIX
                yield Finding(check, "error", message, fix, str(path), row, line)
            elif found is not None:
                yield FileRow(row, line, found)


def _json_line(content: bytes, *, first: bool) -> dict[str, Any] | tuple[str, str] | None:
    """Return the object in a line, or the kind and the words of what is wrong with it."""
    try:
        text = content.decode("utf-8-sig" if first else "utf-8")
    except UnicodeDecodeError as error:
        return "wrong_encoding", f"not UTF-8: byte 0x{content[error.start]:02x} at position {error.start + 1} of the line"
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        return "unreadable_row", f"not JSON: {error}"
    if not isinstance(value, dict):
        return "unreadable_row", f"it is {type(value).__name__}, not an object"
    return value


def _table(path: Path) -> Iterator[FileRow | Finding]:
    csv.field_size_limit(MOST_CELL_BYTES)
    # Bytes that are no UTF-8 come through as lone surrogates, so that they can be named by row.
    with io.TextIOWrapper(open_bytes(path), encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        first = file.readline()
        delimiter = "\t" if ".tsv" in path.suffixes else max((",", ";", "\t", "|"), key=first.count)
        file.seek(0)
        table = csv.reader(file, delimiter=delimiter)
        header = [name.strip() or f"unnamed {number}" for number, name in enumerate(next(table, []), start=1)]
        row, line = 0, table.line_num + 1
        while True:
            try:
                cells = next(table)
            except StopIteration:
                return
            except csv.Error as error:
                row += 1
                yield Finding("unreadable_row", "error", f"not a row of a table: {error}", "Mend the quotes", str(path), row, line)
                line = table.line_num + 1
                continue
            if cells:
                row += 1
                yield _table_row(cells, header, str(path), row, line)
            line = table.line_num + 1


def _table_row(cells: list[str], header: list[str], file: str, row: int, line: int) -> FileRow | Finding:
    if any("\udc80" <= char <= "\udcff" for cell in cells for char in cell if char > "\ud7ff"):
        return Finding("wrong_encoding", "error", "not UTF-8", _UTF8_FIX, file, row, line)
    if len(cells) > len(header):
        message = f"it has {len(cells)} cells, the header {len(header)}: {', '.join(header)}"
        return Finding("unreadable_row", "error", message, 'Put cells that contain the delimiter in "…"', file, row, line)
    return FileRow(row, line, dict(zip(header, cells, strict=False)))


def _text(path: Path) -> Iterator[FileRow | Finding]:
    row = 0
    with open_bytes(path) as file:
        for line, content in enumerate(file, start=1):
            try:
                text = content.decode("utf-8-sig" if line == 1 else "utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                row += 1
                message = f"not UTF-8: byte 0x{content[error.start]:02x} at position {error.start + 1} of the line"
                yield Finding("wrong_encoding", "error", message, _UTF8_FIX, str(path), row, line)
                continue
            if text.strip():
                row += 1
                yield FileRow(row, line, {"text": text})


def _columnar(path: Path) -> Iterator[FileRow | Finding]:
    from tunesmith.data.columns import name_class_labels
    from tunesmith.data.reading import read_file

    try:
        rows = name_class_labels(read_file(path))
    except DataError as error:
        yield Finding("unreadable_row", "error", _without_place(error, path), error.fix or "", str(path))
        return
    for row, values in enumerate(rows, start=1):
        yield FileRow(row, None, dict(values))
