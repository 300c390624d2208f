"""What the commands on data are given: files by split, a country."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tunesmith.data.folders import folder_files
from tunesmith.data.inspection import check_exists, kind_of, look_at
from tunesmith.errors import DataError, UsageError


def files_by_split(data_files: str | Sequence[str], test_files: Sequence[str] = ()) -> dict[str, list[Path]]:
    """Return files by split.

    Args:
        data_files: files of training rows; or one folder, whose files are divided by their names.
        test_files: files to measure on.

    Raises:
        UsageError: without files, or for a file that is given twice.
        DataError: for files that aren't there or whose type isn't known.
    """
    names = [data_files] if isinstance(data_files, str) else list(data_files)
    if not names:
        raise UsageError("no data is named", fix="Give a file: tunesmith data check data.jsonl")
    by_split: dict[str, list[Path]] = {}
    for name in names:
        path = Path(name).expanduser()
        found: Mapping[str, Sequence[Path]] = folder_files(path) if path.is_dir() else {"train": [existing(path)]}
        for split, files in found.items():
            by_split.setdefault(split, []).extend(files)
    for name in test_files:
        by_split.setdefault("test", []).append(existing(name))
    _check_once([path for files in by_split.values() for path in files])
    return by_split


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


def _check_once(paths: Sequence[Path]) -> None:
    seen: dict[Path, Path] = {}
    for path in paths:
        first = seen.setdefault(path.resolve(), path)
        if first is not path:
            raise UsageError(f"{path} is given twice", fix="Name each file once; --test_files are other rows than the training ones")


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
