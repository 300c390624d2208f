"""Columns made the same everywhere before anything looks at rows: class labels by name, the user's names for columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tunesmith.data.provenance import FILE_COLUMN, data_columns
from tunesmith.errors import DataError, UsageError, nearest

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa
    from datasets import Dataset


def number_column(dataset: Dataset, column: str) -> npt.NDArray[np.int32]:
    """Return a column of whole numbers, read as one Arrow column rather than row by row."""
    import numpy as np

    return np.asarray(dataset.select_columns([column]).with_format("arrow")[:][column].to_numpy(), dtype=np.int32)


def name_class_labels(dataset: Dataset) -> Dataset:
    """Return the rows with the names of class labels in place of their numbers (none for -1), in lists of them too."""
    from datasets import ClassLabel, List, Value

    for name, feature in list(dataset.features.items()):
        in_lists = isinstance(feature, List) and isinstance(feature.feature, ClassLabel)
        if name == FILE_COLUMN or not (in_lists or isinstance(feature, ClassLabel)):
            continue
        numbers = dataset.with_format("arrow")[:][name].combine_chunks()
        known = feature.feature.names if in_lists else feature.names
        column = _named_lists(numbers, known) if in_lists else _named(numbers, known)
        text = Value("string")
        dataset = dataset.remove_columns(name).add_column(name, column, feature=List(text) if in_lists else text)
    return dataset


def _named(numbers: pa.Array, names: Sequence[str]) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    known = pc.if_else(pc.less(numbers, 0), pa.scalar(None, numbers.type), numbers)
    return pa.array(names, pa.string()).take(known)


def _named_lists(lists: pa.Array, names: Sequence[str]) -> pa.Array:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    ends = np.cumsum(np.asarray(pc.fill_null(pc.list_value_length(lists), 0)))
    offsets = np.concatenate([[0], ends]).astype(np.int32)
    return pa.ListArray.from_arrays(offsets, _named(lists.flatten(), names))


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
