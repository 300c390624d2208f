"""Rows to a file, one by one: JSON lines, a JSON list, CSV, TSV or Parquet by the file's ending; it appears when it is whole."""

from __future__ import annotations

import contextlib
import csv
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from tunesmith.artifact import replaced_when_whole
from tunesmith.data.named_rows import RowSource
from tunesmith.errors import DataError, OutputError

if TYPE_CHECKING:
    import pyarrow as pa

Row = Mapping[str, Any]
WriteRow = Callable[[Row], None]

KINDS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
#: Rows of one Parquet group; the first ones decide the columns' types.
GROUP_ROWS = 10_000


def check_output_file(path: Path, *, overwrite: bool, inputs: Sequence[RowSource] = ()) -> None:
    """Check, before any work, that rows can be written to ``path``.

    Raises:
        OutputError: for an ending that isn't known, a folder, a file that is there (unless ``overwrite``), or one of ``inputs``.
    """
    if path.suffix.lower() not in KINDS:
        raise OutputError(f"{path}: the file type '{path.suffix}' can't be written", fix=f"Known: {', '.join(KINDS)}")
    if path.is_dir():
        raise OutputError(f"{path} is a folder", fix="Name a file with --output_path")
    if any(isinstance(source, Path) and path.resolve() == source.resolve() for source in inputs):
        raise OutputError(f"{path} is read and would be overwritten", fix="Choose another --output_path")
    if path.exists() and not overwrite:
        raise OutputError(f"{path} is there already", fix="Choose another --output_path, or replace it with --overwrite")
    parent = path.absolute().parent
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise OutputError(f"{path} can't be written: {parent} is no folder that can be written", fix="Choose another --output_path")


@contextlib.contextmanager
def writing_rows(path: Path, columns: Sequence[str]) -> Iterator[WriteRow]:
    """Give a function that writes a row; the file gets its name when the block ends well, else nothing is left.

    Args:
        path: its ending says how rows are written, see :func:`check_output_file`.
        columns: those that a table has, in their order.

    Raises:
        OutputError: when the file can't be written.
        DataError: for rows that a table can't hold.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path} can't be written: {error.strerror or error}") from error
    with replaced_when_whole(path) as temporary, _opened(path.suffix.lower(), temporary, columns) as write:
        yield write


def _opened(suffix: str, temporary: Path, columns: Sequence[str]) -> contextlib.AbstractContextManager[WriteRow]:
    if suffix == ".parquet":
        return _parquet(temporary, columns)
    if suffix in (".csv", ".tsv"):
        return _table(temporary, columns, "\t" if suffix == ".tsv" else ",")
    return _list(temporary) if suffix == ".json" else _lines(temporary)


@contextlib.contextmanager
def _lines(path: Path) -> Iterator[WriteRow]:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        yield lambda row: _write(file, _json(row) + "\n")


@contextlib.contextmanager
def _list(path: Path) -> Iterator[WriteRow]:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        before = "["

        def write(row: Row) -> None:
            nonlocal before
            file.write(f"{before}\n{_json(row)}")
            before = ","

        yield write
        file.write("[]\n" if before == "[" else "\n]\n")


def _write(file: TextIO, text: str) -> None:
    file.write(text)


@contextlib.contextmanager
def _table(path: Path, columns: Sequence[str], delimiter: str) -> Iterator[WriteRow]:
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, delimiter=delimiter)
        table.writerow(columns)
        yield lambda row: table.writerow([_cell(row.get(name)) for name in columns])


def _cell(value: Any) -> str:
    """Return a value as a table holds it: texts as they are, nothing as '', all else as JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


@contextlib.contextmanager
def _parquet(path: Path, columns: Sequence[str]) -> Iterator[WriteRow]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    waiting: list[Row] = []
    writer: pq.ParquetWriter | None = None

    def flush() -> None:
        nonlocal writer
        table = _arrow([{name: row.get(name) for name in columns} for row in waiting], writer.schema if writer else None)
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
        waiting.clear()

    def write(row: Row) -> None:
        waiting.append(row)
        if len(waiting) >= GROUP_ROWS:
            flush()

    try:
        yield write
        if waiting or writer is None:
            flush()
    except pa.ArrowException as error:
        fix = "Write JSON lines (.jsonl), which hold any rows"
        raise DataError(f"the rows can't be Parquet: {' '.join(str(error).split())[:200]}", fix=fix) from error
    finally:
        if writer is not None:
            writer.close()


def _arrow(rows: list[dict[str, Any]], schema: pa.Schema | None) -> pa.Table:
    import pyarrow as pa

    return pa.Table.from_pylist(rows, schema=schema)


def _json(row: Row) -> str:
    return json.dumps(row, ensure_ascii=False, default=str)
