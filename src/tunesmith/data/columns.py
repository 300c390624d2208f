"""Columns made the same everywhere before anything looks at rows: class labels by name, the user's names for columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tunesmith.data.provenance import FILE_COLUMN, data_columns
from tunesmith.errors import DataError, UsageError, nearest

if TYPE_CHECKING:
    from datasets import Dataset


def name_class_labels(dataset: Dataset) -> Dataset:
    """Return the rows with the names of class labels in place of their numbers (none for -1)."""
    import pyarrow as pa
    import pyarrow.compute as pc
    from datasets import ClassLabel, Value

    for name, feature in list(dataset.features.items()):
        if isinstance(feature, ClassLabel) and name != FILE_COLUMN:
            numbers = dataset.with_format("arrow")[:][name].combine_chunks()
            known = pc.if_else(pc.less(numbers, 0), pa.scalar(None, numbers.type), numbers)
            names = pa.array(feature.names, pa.string()).take(known)
            dataset = dataset.remove_columns(name).add_column(name, names, feature=Value("string"))
    return dataset


def check_mapping(map_columns: Mapping[str, str], columns: Sequence[str], *, origin: str) -> None:
    """Check ``--map_columns old=new`` against the columns there are.

    Raises:
        DataError: for an old name that is no column.
        UsageError: for two columns that would get one name.
    """
    found = ", ".join(columns)
    for old, new in map_columns.items():
        if old not in columns:
            swapped = f"Write it the other way round: {new}={old}" if new in columns else nearest(old, columns)
            raise DataError(f"--map_columns {old}={new}: there is no column '{old}'; there is: {found}", file=origin, fix=swapped or None)
    names = [map_columns.get(name, name) for name in columns]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        sources = " and ".join(f"'{name}'" for name in columns if map_columns.get(name, name) == twice)
        raise UsageError(f"--map_columns would give {sources} one name, '{twice}'", fix="Give each column a name of its own")


def rename(dataset: Dataset, map_columns: Mapping[str, str]) -> Dataset:
    """Return the rows with their columns renamed; names that this data set lacks are left out."""
    present = {old: new for old, new in map_columns.items() if old in dataset.column_names}
    return dataset.rename_columns(present) if present else dataset


def without_blank_rows(dataset: Dataset, column: str) -> Dataset:
    """Return the rows whose text isn't blank: an empty line of a text file is no row."""
    import numpy as np
    import pyarrow.compute as pc

    lengths = pc.utf8_length(pc.utf8_trim_whitespace(dataset.with_format("arrow")[:][column]))
    kept = np.flatnonzero(np.asarray(lengths))
    return dataset if len(kept) == len(dataset) else dataset.select(kept, keep_in_memory=True)


def join_files(parts: Sequence[Dataset], names: Sequence[str]) -> Dataset:
    """Return the rows of several files one after the other; a column that is text in one and numbers in another becomes text.

    Raises:
        DataError: when the files have different columns.
    """
    from datasets import Value, concatenate_datasets

    if len(parts) == 1:
        return parts[0]
    for part, name in zip(parts[1:], names[1:], strict=True):
        if set(data_columns(part)) != set(data_columns(parts[0])):
            raise DataError(
                f"its columns ({', '.join(data_columns(part))}) are not those of {names[0]} ({', '.join(data_columns(parts[0]))})",
                file=name,
                fix="Name the files that belong together: --data_files",
            )
    joined = list(parts)
    for column in data_columns(parts[0]):
        if any(part.features[column] != parts[0].features[column] for part in parts):
            joined = [part.cast_column(column, Value("string")) for part in joined]
    return concatenate_datasets(joined)
