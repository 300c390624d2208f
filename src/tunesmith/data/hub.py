"""Data sets of the hub, with one line for whatever keeps one from being read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.data.columns import name_class_labels
from tunesmith.data.provenance import add_provenance
from tunesmith.errors import DataError, nearest

if TYPE_CHECKING:
    from datasets import Dataset


def load_hub(
    name: str,
    *,
    subset: str | None = None,
    data_files: str | Sequence[str] | Mapping[str, str | Sequence[str]] | None = None,
    revision: str | None = None,
    token: str | None = None,
) -> dict[str, Dataset]:
    """Return all splits of a data set on the hub, or in the hub's cache on this machine.

    Args:
        name: e.g. ``owner/name``.
        subset: its configuration, where it has several.
        data_files: files in the repository, where it describes none.
        revision, token: which version, and the key to private ones.

    Raises:
        DataError: when it doesn't exist, can't be reached, is private, or has several subsets and none is named.
    """
    from datasets import load_dataset

    try:
        found = load_dataset(name, subset, data_files=data_files, revision=revision, token=token)
    except Exception as error:
        # The hub's client raises OSError, ValueError, RuntimeError and requests' own kinds; each is said in one line.
        raise _explain(name, subset, error) from error
    places = [f"{name} ({split})" for split in found]
    pairs = zip(found.items(), places, strict=True)
    return {split: add_provenance(name_class_labels(rows), place, all_names=places) for (split, rows), place in pairs}


def _explain(name: str, subset: str | None, error: Exception) -> DataError:
    reason = " ".join(str(error).split())
    kind = type(error).__name__
    local = _local_names()
    did_you_mean = nearest(name, local)
    if "onfig name is missing" in reason or "BuilderConfig" in reason:
        what = f"there is no subset '{subset}'" if subset else "it has several subsets and none is named"
        return DataError(f"{what}: {reason[:300]}", file=name, fix="Name one: --train_subset NAME")
    if isinstance(error, ConnectionError) or "Offline" in kind or "offline" in reason.lower():
        fix = did_you_mean or "Check the path, connect (and unset HF_HUB_OFFLINE), or give a local file"
        what = "it is no file or folder here, and the hub can't be reached (offline); the hub's cache doesn't have it"
        return DataError(what, file=name, fix=fix)
    if "NotFound" in kind or "doesn't exist" in reason:
        fix = did_you_mean or "Check the name; a private or gated data set needs --token"
        return DataError("it is no file or folder here, and the hub has no data set of this name that can be read", file=name, fix=fix)
    return DataError(f"the data set can't be loaded: {reason[:300] or kind}", file=name)


def _local_names() -> list[str]:
    try:
        return sorted(path.name for path in Path.cwd().iterdir())
    except OSError:
        return []
