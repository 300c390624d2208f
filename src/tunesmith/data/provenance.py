"""Where a row came from: two columns that travel with the rows through slices, shuffles and splits.

``_row`` is the 1-based number within its file (or hub split), ``_file`` a class label whose names are the files.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datasets import Dataset

ROW_COLUMN = "_row"
FILE_COLUMN = "_file"


def add_provenance(dataset: Dataset, name: str, *, all_names: Sequence[str]) -> Dataset:
    """Return the rows of one file with the columns that say where each came from.

    Args:
        dataset: the rows of one file, in the file's order.
        name: that file.
        all_names: every file that will be concatenated with it.
    """
    import numpy as np
    from datasets import ClassLabel, Value

    numbers = np.arange(1, len(dataset) + 1, dtype=np.int32)
    files = np.full(len(dataset), list(all_names).index(name), dtype=np.int64)
    dataset = dataset.add_column(ROW_COLUMN, numbers, feature=Value("int32"))
    return dataset.add_column(FILE_COLUMN, files, feature=ClassLabel(names=list(all_names)))


def data_columns(dataset: Dataset) -> list[str]:
    """Return the columns that the user's data has."""
    return [name for name in dataset.column_names if name not in (ROW_COLUMN, FILE_COLUMN)]


def place_of(dataset: Dataset, index: int) -> tuple[str | None, int]:
    """Return the file and the 1-based row number that row ``index`` of the data set came from."""
    if ROW_COLUMN not in dataset.column_names:
        return None, index + 1
    row = dataset[int(index)]
    return dataset.features[FILE_COLUMN].int2str(row[FILE_COLUMN]), row[ROW_COLUMN]
