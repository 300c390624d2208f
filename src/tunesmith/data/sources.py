"""Rows in: from a file, a folder, the hub or a built-in sample to a training, a validation and a test set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.data.cache import datasets_cache, quiet_datasets
from tunesmith.data.provenance import add_provenance
from tunesmith.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset

BUILDERS = {".json": "json", ".jsonl": "json", ".ndjson": "json", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet", ".txt": "text"}


@dataclass(frozen=True)
class Splits:
    """The rows of a run.

    Attributes:
        train, validation, test: rows in file order; the last two None when none are named or found.
        origin: what messages call the data.
        files: the local files it was read from.
    """

    train: Dataset
    validation: Dataset | None
    test: Dataset | None
    origin: str
    files: tuple[str, ...] = ()


def load_splits(
    *,
    data_name: str | None = None,
    data_files: str | Sequence[str] | Mapping[str, str | Sequence[str]] | None = None,
    train_subset: str | None = None,
    train_split: str | None = None,
    eval_subset: str | None = None,
    eval_split: str | None = None,
    max_samples: int | None = None,
    map_columns: Mapping[str, str] | None = None,
    token: str | None = None,
    revision: str | None = None,
) -> Splits:
    """First version: local files only."""
    quiet_datasets()
    name = data_name or str(data_files)
    train = _load_file(Path(name))
    if max_samples:
        train = train.select(range(min(max_samples, len(train))))
    return Splits(train, None, None, name, (name,))


def _load_file(path: Path) -> Dataset:
    from datasets import load_dataset

    if not path.is_file():
        raise DataError("there is no such file", file=str(path))
    options = {"delimiter": "\t"} if path.suffix == ".tsv" else {}
    rows = load_dataset(BUILDERS[path.suffix], data_files=[str(path)], split="train", cache_dir=str(datasets_cache()), **options)
    return add_provenance(rows, str(path), all_names=[str(path)])
