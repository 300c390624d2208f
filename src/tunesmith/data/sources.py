"""Rows in: from a file, a folder, the hub or a built-in sample to a training, a validation and a test set."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.data.cache import quiet_datasets
from tunesmith.data.columns import check_mapping, join_files, name_class_labels, rename, without_blank_rows
from tunesmith.data.folders import SPLIT_WORDS, folder_files
from tunesmith.data.hub import load_hub
from tunesmith.data.inspection import KINDS, check_exists, kind_of
from tunesmith.data.provenance import add_provenance, data_columns
from tunesmith.data.reading import read_file
from tunesmith.data.slices import parse_split, take_slices
from tunesmith.errors import DataError, UsageError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from datasets import Dataset

log = logging.getLogger(__name__)

#: Names for ``--data_name`` that say what the files of ``--data_files`` are.
BUILDERS = {"json": "json", "jsonl": "json", "csv": "csv", "tsv": "csv", "parquet": "parquet", "text": "text", "arrow": "arrow"}
SAMPLE_PREFIX = "sample:"
#: Which rows ``--max_samples`` takes; a run's own seed must not change the data that its cache and its resume compare.
SAMPLE_SEED = 0

DataFiles = str | Sequence[str] | Mapping[str, str | Sequence[str]]


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


@dataclass(frozen=True)
class _Loaded:
    """All splits of one source."""

    splits: dict[str, Dataset]
    origin: str
    files: tuple[str, ...] = ()


def load_splits(
    *,
    data_name: str | None = None,
    data_files: DataFiles | None = None,
    train_subset: str | None = None,
    train_split: str | None = None,
    eval_subset: str | None = None,
    eval_split: str | None = None,
    max_samples: int | None = None,
    map_columns: Mapping[str, str] | None = None,
    token: str | None = None,
    revision: str | None = None,
) -> Splits:
    """Read the rows that a run trains on and is measured on.

    Args:
        data_name: a local file or folder, a hub id, ``sample:NAME``, or what the files are (``json``, ``csv``, ``parquet``, ``text``).
        data_files: files, patterns such as ``part-*.jsonl``, or split -> files.
        train_subset, eval_subset: a configuration of a hub data set, or a folder within a local one.
        train_split, eval_split: a split with or without a slice: ``train[:4096]``, ``train[80%:]``.
        max_samples: most rows of each split; chosen at random, always the same, in file order.
        map_columns: old name -> new name.
        token, revision: for the hub.

    Raises:
        UserError: for whatever can't be read, with file, row and a way to mend it.
    """
    quiet_datasets()
    loaded = _load(data_name, data_files, train_subset, token, revision)
    evaluated = loaded
    if eval_subset is not None and eval_subset != train_subset:
        evaluated = _load(data_name, data_files, eval_subset, token, revision)
    train, validation, test = _choose(loaded, evaluated, train_split, eval_split)
    parts = [_finish(part, loaded.origin, max_samples, map_columns or {}) for part in (train, validation, test)]
    assert parts[0] is not None
    files = tuple(dict.fromkeys([*loaded.files, *evaluated.files]))
    return Splits(parts[0], parts[1], parts[2], loaded.origin, files)


def _check_subset(subset: str | None, what: str) -> None:
    if subset is not None:
        raise UsageError(f"the subset '{subset}' has no effect: {what} has none", fix="Leave --train_subset and --eval_subset out")


def _load(data_name: str | None, data_files: DataFiles | None, subset: str | None, token: str | None, revision: str | None) -> _Loaded:
    """Find out what a name stands for, and read all its splits."""
    if data_name is None and not data_files:
        raise UsageError("no data is named", fix="Give a file: --data_name data.jsonl, or a built-in sample: --data_name sample:tones")
    if data_name is None or (data_name in BUILDERS and not Path(data_name).exists()):
        if not data_files:
            raise UsageError(f"--data_name {data_name} says what the files are, but no files are named", fix="Name them: --data_files FILE")
        _check_subset(subset, "a list of files")
        return _load_files(_listed(data_files, Path()), kind=BUILDERS[data_name] if data_name else None)
    if data_name.startswith(SAMPLE_PREFIX):
        _check_subset(subset, data_name)
        return _Loaded({"train": load_sample(data_name)}, data_name)
    path = Path(data_name).expanduser()
    if path.is_dir():
        return _load_folder(path, data_files, subset)
    if path.is_file() or means_a_file(data_name):
        if data_files:
            fix = "Give all of them in --data_files"
            raise UsageError(f"--data_name {data_name} is a file itself, so --data_files has no effect", fix=fix)
        _check_subset(subset, data_name)
        return _load_files({"train": [path]})
    return _Loaded(load_hub(data_name, subset=subset, data_files=data_files, token=token, revision=revision), data_name)


def means_a_file(name: str) -> bool:
    """Return whether a name that leads nowhere is a mistyped path; hub ids have at most one slash and no known file ending."""
    return name.startswith((".", "/", "~")) or "\\" in name or name.count("/") > 1 or Path(name).suffix.lower() in {*KINDS, ".gz"}


def load_sample(data_name: str) -> Dataset:
    """Return the rows of a built-in sample by its name with the prefix.

    Raises:
        UsageError: when there is no such sample.
    """
    from datasets import Dataset

    from tunesmith.data.samples import sample_rows

    rows = Dataset.from_list(sample_rows(data_name.removeprefix(SAMPLE_PREFIX)))
    return add_provenance(rows, data_name, all_names=[data_name])


def _load_folder(folder: Path, data_files: DataFiles | None, subset: str | None) -> _Loaded:
    if data_files:
        return _load_files(_listed(data_files, folder), origin=str(folder))
    if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
        return _load_saved(folder)
    return _load_files(folder_files(folder, subset=subset), origin=str(folder))


def _load_saved(folder: Path) -> _Loaded:
    """Read what ``save_to_disk`` of `datasets` wrote."""
    from datasets import Dataset, load_from_disk

    try:
        found = load_from_disk(str(folder))
    except Exception as error:
        # datasets raises what its readers raise, which share no base class.
        raise DataError(f"the folder looks like saved by `datasets`, but can't be read: {error}", file=str(folder)) from error
    splits = {"train": found} if isinstance(found, Dataset) else dict(found)
    names = [f"{folder} ({name})" for name in splits]
    pairs = zip(splits.items(), names, strict=True)
    named = {split: add_provenance(name_class_labels(rows), name, all_names=names) for (split, rows), name in pairs}
    return _Loaded(named, str(folder), tuple(str(path) for path in sorted(folder.rglob("*.arrow"))))


def _listed(data_files: DataFiles, base: Path) -> dict[str, list[Path]]:
    """Return files by split; patterns are filled in, relative ones looked up in ``base``."""
    by_split = data_files if isinstance(data_files, Mapping) else {"train": data_files}
    listed: dict[str, list[Path]] = {}
    for split, names in by_split.items():
        paths: list[Path] = []
        for name in [names] if isinstance(names, str) else names:
            pattern = Path(name).expanduser()
            pattern = pattern if pattern.is_absolute() else base / pattern
            if any(char in pattern.name for char in "*?[") and not pattern.is_file():
                matches = sorted(pattern.parent.glob(pattern.name))
                if not matches:
                    raise DataError("no file matches this pattern", file=str(pattern), fix="Check the path; quote a pattern in the shell")
                paths += matches
            else:
                paths.append(pattern)
        listed[SPLIT_WORDS.get(split.lower(), split)] = paths
    return listed


def _load_files(by_split: Mapping[str, Sequence[Path]], *, kind: str | None = None, origin: str | None = None) -> _Loaded:
    for paths in by_split.values():
        for path in paths:
            check_exists(path)
    files = tuple(dict.fromkeys(str(path) for paths in by_split.values() for path in paths))
    splits = {}
    for split, paths in by_split.items():
        parts = [add_provenance(name_class_labels(read_file(path, kind=kind)), str(path), all_names=files) for path in paths]
        if (kind or kind_of(paths[0])) == "text":
            parts = [without_blank_rows(part, "text") for part in parts]
        splits[split] = join_files(parts, [str(path) for path in paths])
    return _Loaded(splits, origin or ", ".join(files[:3]) + (" …" if len(files) > 3 else ""), files)


def _choose(
    loaded: _Loaded, evaluated: _Loaded, train_split: str | None, eval_split: str | None
) -> tuple[Dataset, Dataset | None, Dataset | None]:
    """Return training, validation and test rows as the splits are named."""
    name = train_split or default_train(loaded.splits, loaded.origin)
    train, in_train = take_slices(parse_split(name, option="--train_split"), loaded.splits, text=name, origin=loaded.origin)
    validation = None
    in_validation: dict[str, npt.NDArray[np.int64]] = {}
    if eval_split is not None:
        wanted = parse_split(_known_split(eval_split, evaluated), option="--eval_split")
        validation, in_validation = take_slices(wanted, evaluated.splits, text=eval_split, origin=evaluated.origin)
        if evaluated is loaded:
            train = _without_validation(train, in_train, in_validation, named=train_split is not None, origin=loaded.origin)
    elif "validation" not in in_train:
        found = next((split for split in evaluated.splits if SPLIT_WORDS.get(split.lower()) == "validation"), None)
        validation = evaluated.splits[found] if found else None
    unused = "test" not in in_train and "test" not in in_validation
    return train, validation, evaluated.splits.get("test") if unused else None


def _known_split(text: str, loaded: _Loaded) -> str:
    """Return ``dev`` or ``valid`` as the name under which the data has them."""
    head, bracket, rest = text.partition("[")
    stands_for = SPLIT_WORDS.get(head.strip().lower())
    if head.strip() not in loaded.splits and stands_for in loaded.splits:
        return f"{stands_for}{bracket}{rest}"
    return text


def default_train(splits: Mapping[str, object], origin: str) -> str:
    """Return which of the splits of ``origin`` is trained on when none is named.

    Raises:
        DataError: when none is called ``train`` and there are several.
    """
    if "train" in splits:
        return "train"
    if len(splits) == 1:
        return next(iter(splits))
    raise DataError(f"no split is called 'train'; there is: {', '.join(splits)}", file=origin, fix="Name one: --train_split NAME")


def _without_validation(
    train: Dataset,
    in_train: Mapping[str, npt.NDArray[np.int64]],
    in_validation: Mapping[str, npt.NDArray[np.int64]],
    *,
    named: bool,
    origin: str,
) -> Dataset:
    """Take validation rows out of a training split that nobody cut; say it where somebody named both."""
    import numpy as np

    shared = np.concatenate([np.isin(rows, in_validation.get(split, ())) for split, rows in in_train.items()])
    count = int(shared.sum())
    if not count:
        return train
    if named:
        log.warning("%s: %s rows are both in --train_split and in --eval_split; validation figures will flatter", origin, f"{count:,}")
        return train
    if count == len(train):
        fix = "Name a slice, e.g. --eval_split train[90%:]"
        raise DataError("--eval_split takes all rows, nothing is left to train on", file=origin, fix=fix)
    log.info("%s rows of --eval_split are left out of training.", f"{count:,}")
    return train.select(np.flatnonzero(~shared), keep_in_memory=True)


def _finish(rows: Dataset | None, origin: str, max_samples: int | None, map_columns: Mapping[str, str]) -> Dataset | None:
    """Sample and rename; the same for each split."""
    import numpy as np

    if rows is None:
        return None
    if max_samples is not None and max_samples < 1:
        raise UsageError(f"--max_samples {max_samples} leaves no row", fix="Give a number above 0")
    if max_samples is not None and max_samples < len(rows):
        chosen = np.random.default_rng(SAMPLE_SEED).permutation(len(rows))[:max_samples]
        rows = rows.select(np.sort(chosen), keep_in_memory=True)
    if map_columns:
        check_mapping(map_columns, data_columns(rows), origin=origin)
    return rename(rows, map_columns)
