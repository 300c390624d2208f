"""One local file to rows: Arrow on disk, memory-mapped, kept under the hash of the file's content."""

from __future__ import annotations

import csv
import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.data.cache import ARROW_PREFIX, Store, open_arrow
from tunesmith.data.inspection import FileLook, look_at, open_bytes
from tunesmith.data.json_rows import ColumnTypes, fit_row, iterate_json, json_shape
from tunesmith.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset, Features

log = logging.getLogger(__name__)

#: Part of the key: raised whenever the same file would be read otherwise.
READER_VERSION = 1
HEADER_ROWS = 100


def read_file(path: Path, *, kind: str | None = None) -> Dataset:
    """Return the rows of a file, in its order.

    Args:
        path: JSON (lines, list, or an object that holds the list), CSV, TSV, Parquet, Arrow or plain text; ``.gz`` for text formats.
        kind: ``json``, ``csv``, ``text``, ``parquet`` or ``arrow`` when the file's ending shouldn't decide.

    Raises:
        DataError: for a file that can't be read, with the line or row.
    """
    look = look_at(path, kind=kind)
    store = Store("datasets")
    key = f"{look.content_hash}-{READER_VERSION}"
    entry = store.find(key)
    if entry is None:
        with store.writing() as temporary:
            finished = temporary / "finished"
            finished.mkdir()
            for number, file in enumerate(_arrow_files(look, temporary)):
                file.replace(finished / f"{ARROW_PREFIX}-{number:05d}.arrow")
            entry = store.keep(finished, key)
    return open_arrow(entry)


def _arrow_files(look: FileLook, temporary: Path) -> list[Path]:
    """Convert a file and return the Arrow files made of it, in order; nothing holds them open afterwards."""
    rows = _convert(look, temporary)
    if not len(rows):
        raise DataError("the file holds no row", file=str(look.path))
    return [Path(item["filename"]) for item in rows.cache_files]


def _convert(look: FileLook, temporary: Path) -> Dataset:
    if look.kind == "json":
        return _read_json(look.path, temporary)
    if look.kind == "csv":
        return _read_csv(look.path, temporary)
    return _build(look.kind, look.path, temporary)


def _build(builder: str, path: Path, temporary: Path, **options: Any) -> Dataset:
    """Let `datasets` read a file.

    Raises:
        DataError: with the reason that `datasets` gives.
    """
    from datasets import load_dataset

    try:
        return load_dataset(builder, data_files=[str(path)], split="train", cache_dir=str(temporary / "built"), **options)
    except Exception as error:
        # Whatever the reader of the format raises (Arrow's, pandas' and datasets' own errors share no base class).
        raise DataError(f"the file can't be read as {builder}: {_reason(error)}", file=str(path)) from error


def _reason(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join((str(error) or type(error).__name__).split())[:300]


def _read_json(path: Path, temporary: Path) -> Dataset:
    shape = json_shape(path)
    lines = path
    if shape != "lines" or path.suffix == ".gz":
        lines = temporary / "rows.jsonl"
        with lines.open("w", encoding="utf-8") as file:
            for row in iterate_json(path, shape):
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        if not lines.stat().st_size:
            raise DataError("the list holds no row", file=str(path))
    try:
        rows = _build("json", lines, temporary)
    except DataError as error:
        return _read_json_slowly(path, shape, temporary, error)
    # Arrow takes texts that look like dates for dates; they are learnt as they were written.
    return _read_json_slowly(path, shape, temporary, None) if "timestamp[" in str(rows.features) else rows


def _read_json_slowly(path: Path, shape: str, temporary: Path, error: DataError | None) -> Dataset:
    """Read rows one by one: to find what is wrong with a line, or because the columns' types are beyond Arrow's reader."""
    from datasets import Dataset

    types = ColumnTypes()
    for row in iterate_json(path, shape):
        types.add(row)
    if not types.seen:
        raise error or DataError("the file holds no row", file=str(path))
    for name in types.mixed():
        log.warning("%s: column '%s' holds texts and other values; all are read as text", path, name)
    features = types.features()
    sources = {"file": str(path), "shape": shape, "features": features}
    built = Dataset.from_generator(_fitted, features=features, gen_kwargs=sources, cache_dir=str(temporary / "slow"))
    assert isinstance(built, Dataset)
    return built


def _fitted(file: str, shape: str, features: Features) -> Iterator[dict[str, Any]]:
    for row in iterate_json(Path(file), shape):
        yield fit_row(row, features)


def _read_csv(path: Path, temporary: Path) -> Dataset:
    """Read a table with every cell as the text that it is: '007' and 'NA' stay what they are."""
    from datasets import Features, Value

    header, delimiter = _check_header(path)
    features = Features({name: Value("string") for name in header})
    options = {"features": features, "names": header, "header": 0, "keep_default_na": False}
    try:
        return _build("csv", path, temporary, delimiter=delimiter, encoding="utf-8-sig", **options)
    except DataError as error:
        raise DataError(error.message.partition(": ")[2], file=str(path), fix='Put cells that contain the delimiter in "…"') from error


def _check_header(path: Path) -> tuple[list[str], str]:
    """Return the columns and the delimiter, from the first rows.

    Raises:
        DataError: for columns of one name, without a name, and for rows with more cells than columns.
    """
    rows = 0
    with io.TextIOWrapper(open_bytes(path), encoding="utf-8-sig", newline="") as file:
        first = file.readline()
        delimiter = "\t" if ".tsv" in path.suffixes else max((",", ";", "\t", "|"), key=first.count)
        file.seek(0)
        table = csv.reader(file, delimiter=delimiter)
        # The index that pandas writes has no name; it is no data, but its place counts.
        header = [name.strip() or f"unnamed {number}" for number, name in enumerate(next(table, []), start=1)]
        twice = sorted({name for name in header if header.count(name) > 1})
        if twice:
            found = f"two columns are called '{twice[0]}' in the header: {', '.join(header)}"
            raise DataError(found, file=str(path), fix="Give each column a name of its own")
        for number, cells in zip(range(1, HEADER_ROWS), table, strict=False):
            if len(cells) > len(header):
                fix = 'Put cells that contain the delimiter in "…"'
                found = f"it has {len(cells)} cells, the header {len(header)}: {', '.join(header)}"
                raise DataError(found, file=str(path), row=number, fix=fix)
            rows = number
    if not rows:
        raise DataError("the file holds no row", file=str(path), fix="Add rows below the header")
    return header, delimiter
