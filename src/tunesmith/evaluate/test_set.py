"""A test set from whatever names one: files, rows, a data set, or the folder of a run that held rows out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.data.columns import check_mapping, rename
from tunesmith.data.provenance import data_columns
from tunesmith.data.sources import load_splits
from tunesmith.errors import DataError, UsageError
from tunesmith.run_folder import HELD_OUT

if TYPE_CHECKING:
    from datasets import Dataset

#: A file, several, rows, or a data set of `datasets`.
TestSet = str | Path | Sequence[str] | Sequence[Mapping[str, Any]] | Iterable[Mapping[str, Any]]


def read_test_set(data: Any, model: str | Path | None, *, map_columns: Mapping[str, str] | None = None) -> Iterable[Mapping[str, Any]]:
    """Return the rows of a test set; files are read as they are needed.

    Args:
        data: see ``TestSet``; None for the rows that the run ``model`` held out.
        model: the run.
        map_columns: old name -> new name.

    Raises:
        DataError: when a file can't be read or there is no row.
        UsageError: when nothing is named and the model is no run with rows of its own.
    """
    if data is None:
        data = _held_out(model)
    if isinstance(data, (str, Path)):
        data = [str(data)]
    if isinstance(data, Sequence) and data and all(isinstance(entry, (str, Path)) for entry in data):
        rows = load_splits(data_files=[str(entry) for entry in data], map_columns=map_columns).train
        columns: Iterable[Mapping[str, Any]] = rows.select_columns(data_columns(rows))
        return columns
    if hasattr(data, "column_names") and hasattr(data, "features"):
        return _data_set(data, map_columns or {})
    if isinstance(data, Mapping):
        raise UsageError("the test set is one row, or several splits", fix='Give a list of rows, or one split: data["test"]')
    if isinstance(data, Sequence) and not data:
        raise DataError("the test set is empty")
    return _renamed(data, map_columns or {})


def _held_out(model: str | Path | None) -> str:
    file = Path(model).expanduser() / HELD_OUT if model is not None else None
    if file is None or not file.is_file():
        what = f"{model} held no rows out of its training" if file is not None and file.parent.is_dir() else "no test set is named"
        raise UsageError(what, fix="Name a file: tunesmith evaluate MODEL TEST_FILE")
    return str(file)


def _data_set(rows: Dataset, map_columns: Mapping[str, str]) -> Iterable[Mapping[str, Any]]:
    from tunesmith.data.columns import name_class_labels

    if map_columns:
        check_mapping(map_columns, rows.column_names, origin="the test set")
    renamed: Iterable[Mapping[str, Any]] = rename(name_class_labels(rows), map_columns)
    return renamed


def _renamed(rows: Any, map_columns: Mapping[str, str]) -> Iterable[Mapping[str, Any]]:
    for number, row in enumerate(rows, 1):
        if not isinstance(row, Mapping):
            raise DataError(
                f"row {number} of the test set is {type(row).__name__}, not a mapping of columns", fix='Give rows: [{"text": "…"}]'
            )
        yield {map_columns.get(name, name): value for name, value in row.items()} if map_columns else row
