"""What the commands on data are given: files, samples and data sets of the hub by split; a country."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tunesmith.data.folders import folder_files
from tunesmith.data.inspection import check_exists, kind_of, look_at
from tunesmith.data.named_rows import RowSource, held_back_rows, is_named, named_splits, training_rows
from tunesmith.errors import DataError, UsageError


def sources_by_split(
    data_files: str | Sequence[str], test_files: Sequence[str] = (), *, token: str | None = None
) -> dict[str, list[RowSource]]:
    """Return where rows come from by split.

    Args:
        data_files: files of training rows, or one folder, whose files are divided by their names; ``sample:NAME`` or a hub id, with all
            its splits.
        test_files: files, or the like, to measure on.
        token: for the hub.

    Raises:
        UsageError: without files, or for a file that is given twice.
        DataError: for files that aren't there or whose type isn't known, and for what the hub doesn't have.
    """
    names = [data_files] if isinstance(data_files, str) else list(data_files)
    if not names:
        raise UsageError("no data is named", fix="Give a file: tunesmith data check data.jsonl")
    by_split: dict[str, list[RowSource]] = {}
    for name in names:
        for split, sources in _splits(name, token).items():
            by_split.setdefault(split, []).extend(sources)
    for name in test_files:
        by_split.setdefault("test", []).append(held_back_source(name, token=token))
    _check_once([source for sources in by_split.values() for source in sources])
    return by_split


def _splits(name: str, token: str | None) -> Mapping[str, Sequence[RowSource]]:
    if is_named(name):
        return {split: [rows] for split, rows in named_splits(name, token=token).items()}
    path = Path(name).expanduser()
    return folder_files(path) if path.is_dir() else {"train": [existing(path)]}


def training_source(name: str, *, token: str | None = None) -> RowSource:
    """Return training rows: a file; or the training rows of ``sample:NAME`` or a hub id.

    Raises:
        UserError: for a file that isn't there or of unknown type, and for what the hub doesn't have.
    """
    return training_rows(name, token=token) if is_named(name) else existing(name)


def held_back_source(name: str, *, token: str | None = None) -> RowSource:
    """Return rows to measure on: a file; or the test rows of a hub id, else its validation rows.

    Raises:
        UserError: as :func:`training_source`.
    """
    return held_back_rows(name, token=token) if is_named(name) else existing(name)


def existing(name: str | Path) -> Path:
    """Return the path of a file of rows.

    Raises:
        DataError: when it isn't there, or its type isn't known.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        raise DataError("it is a folder, not a file", file=str(path), fix="Name the files in it")
    check_exists(path)
    if kind_of(path) is None:
        look_at(path)
    return path


def _check_once(sources: Sequence[RowSource]) -> None:
    seen: dict[Path | str, RowSource] = {}
    for source in sources:
        first = seen.setdefault(source.resolve() if isinstance(source, Path) else source.name, source)
        if first is not source:
            raise UsageError(f"{source} is given twice", fix="Name each file once; --test_files are other rows than the training ones")


def check_region(region: str | None) -> str | None:
    """Return the country that phone numbers are looked for in, None for none.

    Raises:
        UsageError: for a code that is no country's.
    """
    if region is None or region.lower() == "none":
        return None
    from phonenumbers import SUPPORTED_REGIONS

    if region.upper() not in SUPPORTED_REGIONS:
        raise UsageError(f"--phone_region {region} is no country", fix="Give two letters, e.g. US, GB, DE, or none")
    return region.upper()
