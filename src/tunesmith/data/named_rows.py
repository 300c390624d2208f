"""Rows that are no file of the user's: built-in samples, and data sets of the hub. The commands on data read them like files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.data.cache import quiet_datasets
from tunesmith.data.folders import SPLIT_WORDS
from tunesmith.data.hub import load_hub
from tunesmith.data.provenance import data_columns
from tunesmith.data.sources import SAMPLE_PREFIX, default_train, load_sample, means_a_file

if TYPE_CHECKING:
    from datasets import Dataset

_ROWS_AT_ONCE = 1000


@dataclass(frozen=True, eq=False)
class NamedRows:
    """All rows of one split.

    Attributes:
        name: what messages call it, e.g. ``sample:tones`` or ``owner/name (train)``.
        rows: of any length; they stay on disk.
    """

    name: str
    rows: Dataset

    def __str__(self) -> str:
        return self.name

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield the rows in order, with the columns of the data."""
        columns = data_columns(self.rows)
        for batch in self.rows.select_columns(columns).with_format(None).iter(batch_size=_ROWS_AT_ONCE):
            for values in zip(*(batch[name] for name in columns), strict=True):
                yield dict(zip(columns, values, strict=True))


#: Where rows come from: a file, or something with a name.
RowSource = Path | NamedRows


def is_named(name: str | Path) -> bool:
    """Return whether a name is that of a sample or of a data set on the hub, as ``finetune`` takes it, and no file or folder."""
    return str(name).startswith(SAMPLE_PREFIX) or not (Path(name).expanduser().exists() or means_a_file(str(name)))


def named_splits(name: str, *, token: str | None = None) -> dict[str, NamedRows]:
    """Return the splits of a sample or of a data set on the hub; ``train``, ``validation`` and ``test`` are called so.

    Raises:
        UserError: when there is none of this name, or it can't be read.
    """
    quiet_datasets()
    if name.startswith(SAMPLE_PREFIX):
        return {"train": NamedRows(name, load_sample(name))}
    found = load_hub(name, token=token)
    return {SPLIT_WORDS.get(split.lower(), split): NamedRows(f"{name} ({split})", rows) for split, rows in found.items()}


def training_rows(name: str, *, token: str | None = None) -> NamedRows:
    """Return the split that training would take.

    Raises:
        UserError: as :func:`named_splits`, and when it can't be told which split that is.
    """
    splits = named_splits(name, token=token)
    return splits[default_train(splits, name)]


def held_back_rows(name: str, *, token: str | None = None) -> NamedRows:
    """Return the split that one is measured on: ``test``, else ``validation``, else the only one.

    Raises:
        UserError: as :func:`training_rows`.
    """
    splits = named_splits(name, token=token)
    found = next((splits[split] for split in ("test", "validation") if split in splits), None)
    return found if found is not None else splits[default_train(splits, name)]
