"""Which files of a folder are which split, by their names, as `datasets` and people name them."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path

from tunesmith.data.inspection import KINDS, kind_of
from tunesmith.errors import DataError, nearest

log = logging.getLogger(__name__)

#: Words in the names of files and folders, and the splits they stand for.
SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "eval": "validation",
    "evaluation": "validation",
    "test": "test",
    "testing": "test",
}
_NOT_ROWS = ("dataset_info.json", "dataset_infos.json", "state.json", "dataset_dict.json", "package.json", "config.json")


def split_of(path: Path, *, within: Path | None = None) -> str | None:
    """Return the split that a file's name (or a folder on the way to it) stands for, None when it names none."""
    parts = path.relative_to(within).parts if within else path.parts[-1:]
    for part in reversed(parts):
        for word in re.split(r"[^a-z]+", part.lower()):
            if word in SPLIT_WORDS:
                return SPLIT_WORDS[word]
    return None


def folder_files(folder: Path, *, subset: str | None = None) -> dict[str, list[Path]]:
    """Return the data files of a folder by split.

    Args:
        folder: its files, and those of its folders.
        subset: the name of a folder in it to take alone.

    Raises:
        DataError: when there are no data files, or no such subset.
    """
    if subset is not None:
        if not (folder / subset).is_dir():
            names = sorted(path.name for path in folder.iterdir() if path.is_dir())
            listed = f"its folders: {', '.join(names)}" if names else "it has no folders"
            raise DataError(f"there is no subset '{subset}'; {listed}", file=str(folder), fix=nearest(subset, names) or None)
        folder = folder / subset
    files = [path for path in sorted(folder.rglob("*")) if _holds_rows(path, folder)]
    # Beside rows in a format of their own, plain text is a note or a licence.
    structured = [path for path in files if kind_of(path) != "text"]
    files = structured or [path for path in files if path.suffix != ".md"]
    if not files:
        names = sorted(path.name for path in folder.iterdir())[:8]
        found = f"it has: {', '.join(names)}" if names else "it is empty"
        known = ", ".join(sorted({*KINDS} - {".md"}))
        raise DataError(f"the folder holds no data files; {found}", file=str(folder), fix=f"Known file types: {known}")
    return _by_split(files, folder)


def _holds_rows(path: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    return path.is_file() and not hidden and kind_of(path) is not None and path.name not in _NOT_ROWS


def _by_split(files: Sequence[Path], folder: Path) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in files:
        found.setdefault(split_of(path, within=folder) or "", []).append(path)
    rest = found.pop("", [])
    if not found:
        return {"train": rest}
    if "train" not in found and rest:
        found["train"] = rest
    elif rest:
        log.warning("%s: not used, because no split is in the name: %s", folder, ", ".join(path.name for path in rest))
    order = ("train", "validation", "test")
    return {name: found[name] for name in order if name in found}
