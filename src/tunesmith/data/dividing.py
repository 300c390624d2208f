"""Rows divided into training, validation and test files: stratified, in groups, or by time; never a text in two of them."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.data.doctor.checks import text_hash
from tunesmith.data.doctor.findings import Places
from tunesmith.data.doctor.labels import are_labels
from tunesmith.data.doctor.roles import Roles
from tunesmith.data.named_rows import RowSource
from tunesmith.data.placeholders import as_text
from tunesmith.data.rows_of_files import PlacedRow, iterate_rows, roles_of_files
from tunesmith.data.splits import choose_groups
from tunesmith.data.writing import KINDS, check_output_file, writing_rows
from tunesmith.errors import DataError, OutputError, UsageError, nearest

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Numbers = npt.NDArray[np.int64]

NAMES = ("train", "validation", "test")
#: The part of a row that is left out of all files.
LEFT_OUT = -1


@dataclass(frozen=True)
class Divided:
    """What dividing made.

    Attributes:
        files: split -> file; no entry for a split that was not asked for.
        num_rows: split -> rows; ``left_out``: rows whose text is in an earlier split already (only when divided by time).
        left_out_path: those rows, None when there are none.
        by: in words, how the rows were divided.
    """

    files: Mapping[str, Path]
    num_rows: Mapping[str, int]
    left_out_path: Path | None
    by: str

    def words(self) -> list[str]:
        """Return what was made, line by line."""
        total = sum(self.num_rows.values())
        lines = [f"{name:<10} {count:>8,} rows ({count / total:.1%})  {self.files[name]}" for name, count in self._listed()]
        lines.append(f"Divided {self.by}; no text is in two of them.")
        if self.left_out_path:
            count = self.num_rows["left_out"]
            lines.append(f"{count:,} rows left out, because an earlier split has their text: {self.left_out_path}")
        return lines

    def _listed(self) -> list[tuple[str, int]]:
        return [(name, self.num_rows[name]) for name in self.files]


@dataclass
class _Seen:
    """What the division goes by, of every row: 8 bytes each."""

    text: array[int]
    group: array[int]
    label: array[int]
    time: array[float]
    columns: dict[str, None]


def divide(
    files: Sequence[RowSource],
    folder: Path,
    *,
    validation_fraction: float = 0.1,
    test_fraction: float = 0.1,
    group_by: str | None = None,
    time_by: str | None = None,
    stratify_by: str | None = None,
    text_template: str | None = None,
    map_columns: Mapping[str, str] | None = None,
    file_type: str = ".jsonl",
    seed: int = 0,
    overwrite: bool = False,
) -> Divided:
    """Divide rows into files ``train``, ``validation`` and ``test`` of a folder.

    Rows with one text (whatever its case and punctuation) stay together, and so do rows with one value of ``group_by``; the labels are
    spread alike over all files. By time, the last rows are the test rows and those before them the validation rows.

    Args:
        files: all rows.
        folder: where the files go.
        validation_fraction, test_fraction: share of the rows; 0 for no such file.
        group_by: column whose values must not be on both sides (a user, a document).
        time_by: column with numbers or ISO dates to divide by.
        stratify_by: column to spread evenly; the answer, where answers are labels.
        text_template: how a row becomes text, where its format isn't to decide.
        map_columns: old name -> new name, also in the output.
        file_type: ending of the files.
        seed: decides which rows.
        overwrite: replace the files.

    Raises:
        UsageError: for shares that leave nothing, options that exclude each other.
        DataError: for rows that can't be read, columns that aren't there, times that are none, and too few rows or groups.
        OutputError: for files that are there already or can't be written.
    """
    import numpy as np

    _check_options(validation_fraction, test_fraction, group_by, time_by, stratify_by, file_type)
    fractions = {"validation": validation_fraction, "test": test_fraction}
    targets = {name: folder / f"{name}{file_type}" for name in NAMES if name == "train" or fractions[name] > 0}
    left_out = folder / f"left_out{file_type}"
    for path in (*targets.values(), left_out):
        check_output_file(path, overwrite=overwrite, inputs=files)
    roles = roles_of_files(files, map_columns=map_columns, text_template=text_template)
    seen = _look(iterate_rows(files, map_columns), roles, group_by, time_by, stratify_by)
    counts = {name: round(share * len(seen.text)) for name, share in fractions.items() if share > 0}
    if time_by is not None:
        part = _by_time(seen, counts)
        by = f"by '{time_by}'"
    else:
        part = _by_groups(seen, counts, np.random.default_rng(seed), stratified=_stratified(seen, roles, stratify_by))
        by = f"by groups of '{group_by}'" if group_by else "at random"
        by += f", with {'the labels' if stratify_by is None else repr(stratify_by)} spread alike" if len(set(seen.label)) > 1 else ""
    _check_parts(part, targets, files[0])
    _write(iterate_rows(files, map_columns), part, targets, left_out, list(seen.columns))
    num_rows = {name: int((part == NAMES.index(name)).sum()) for name in targets} | {"left_out": int((part == LEFT_OUT).sum())}
    return Divided(targets, num_rows, left_out if num_rows["left_out"] else None, by)


def _check_options(
    validation: float, test: float, group_by: str | None, time_by: str | None, stratify_by: str | None, file_type: str
) -> None:
    if not (0 <= validation < 1 and 0 <= test < 1 and 0 < validation + test < 1):
        found = f"--validation_fraction {validation} and --test_fraction {test}"
        raise UsageError(f"{found} leave no rows on one side", fix="Give shares that add up to more than 0 and less than 1")
    if time_by is not None and (group_by or stratify_by):
        other = "--group_by" if group_by else "--stratify_by"
        raise UsageError(f"{other} has no effect with --time_by, which decides alone", fix="Give one of them")
    if file_type not in KINDS:
        raise OutputError(f"the file type '{file_type}' can't be written", fix=f"Known: {', '.join(KINDS)}")


def _look(rows: Iterator[PlacedRow], roles: Roles, group_by: str | None, time_by: str | None, stratify_by: str | None) -> _Seen:
    """Read all rows once, and keep hashes of what decides."""
    seen = _Seen(array("Q"), array("Q"), array("Q"), array("d"), {})
    for row in rows:
        seen.columns.update(dict.fromkeys(row.values))
        try:
            read = roles.row(row.values, Places())
        except DataError as error:
            raise DataError(error.message, file=row.place, fix=error.fix) from error
        seen.text.append(text_hash(read.words or read.asked))
        label = (read.answer or "").strip() if stratify_by is None else as_text(_cell(row, stratify_by, "--stratify_by"))
        seen.label.append(text_hash(label))
        if group_by is not None:
            seen.group.append(text_hash(as_text(_cell(row, group_by, "--group_by"))))
        if time_by is not None:
            seen.time.append(_time(row, time_by))
    return seen


def _cell(row: PlacedRow, column: str, option: str) -> Any:
    if column not in row.values:
        close = nearest(column, row.values)
        raise DataError(f"{option}: there is no column '{column}'; there is: {', '.join(row.values)}", file=row.place, fix=close or None)
    return row.values[column]


def _time(row: PlacedRow, column: str) -> float:
    """Return a time as seconds, or as the number that it is."""
    value = _cell(row, column, "--time_by")
    if isinstance(value, datetime):
        return value.timestamp()
    try:
        return float(value)
    except (TypeError, ValueError):
        pass
    try:
        moment = datetime.fromisoformat(str(value).strip().replace("Z", "+00:00"))
    except ValueError as error:
        fix = "Write a number, or an ISO date such as 2026-11-24 or 2026-11-24T10:15:00"
        raise DataError(f"'{column}' is {value!r}, no time", file=row.place, fix=fix) from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()


def _stratified(seen: _Seen, roles: Roles, stratify_by: str | None) -> bool:
    """Whether labels are to be spread alike; free answers are made one stratum."""
    stratified = stratify_by is not None or (not roles.is_plain_text and are_labels(len(set(seen.label)), len(seen.label), roles.task))
    if not stratified:
        seen.label = array("Q", [0]) * len(seen.label)
    return stratified


def _by_groups(seen: _Seen, counts: Mapping[str, int], random: np.random.Generator, *, stratified: bool) -> Numbers:
    """Return the part of each row: whole groups, the test rows first, then the validation rows of what is left."""
    import numpy as np

    groups = _groups(seen)
    strata = _numbers(seen.label) if stratified else np.zeros(len(groups), dtype=np.int64)
    part = np.zeros(len(groups), dtype=np.int64)
    for name in ("test", "validation"):
        free = np.flatnonzero(part == 0)
        if counts.get(name) and len(free):
            _, renumbered = np.unique(groups[free], return_inverse=True)
            _, labels = np.unique(strata[free], return_inverse=True)
            part[free[choose_groups(renumbered, labels, counts[name], random)]] = NAMES.index(name)
    return part


def _groups(seen: _Seen) -> Numbers:
    """Number the rows that must stay together: those with one text, or one value of the group's column, or linked through others."""
    import numpy as np

    texts = _numbers(seen.text)
    if not seen.group:
        return texts
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    groups = _numbers(seen.group)
    num_texts, num_groups = int(texts.max()) + 1, int(groups.max()) + 1
    size = num_texts + num_groups
    links = coo_matrix((np.ones(len(texts)), (texts, groups + num_texts)), shape=(size, size))
    return _renumbered(connected_components(links, directed=False)[1][texts])


def _numbers(hashes: array[int]) -> Numbers:
    import numpy as np

    return _renumbered(np.frombuffer(hashes, dtype=np.uint64))


def _renumbered(values: npt.NDArray[Any]) -> Numbers:
    import numpy as np

    return np.unique(values, return_inverse=True)[1].astype(np.int64)


def _by_time(seen: _Seen, counts: Mapping[str, int]) -> Numbers:
    """Return the part of each row: the latest for the test; a text that an earlier part has is left out of the later one."""
    import numpy as np

    times, texts = np.frombuffer(seen.time, dtype=np.float64), np.frombuffer(seen.text, dtype=np.uint64)
    order = np.argsort(times, kind="stable")
    part = np.zeros(len(times), dtype=np.int64)
    stop = len(order)
    for name in ("test", "validation"):
        start = max(0, stop - counts.get(name, 0))
        part[order[start:stop]] = NAMES.index(name)
        stop = start
    for number in (1, 2):
        earlier = np.unique(texts[(part >= 0) & (part < number)])
        part[(part == number) & np.isin(texts, earlier)] = LEFT_OUT
    return part


def _check_parts(part: Numbers, targets: Mapping[str, Path], file: RowSource) -> None:
    for name in targets:
        if not (part == NAMES.index(name)).any():
            raise DataError(f"no row is left for {name}: there are too few texts or groups", file=str(file), fix="Give more rows")


def _write(rows: Iterator[PlacedRow], part: Numbers, targets: Mapping[str, Path], left_out: Path, columns: Sequence[str]) -> None:
    paths = {NAMES.index(name): path for name, path in targets.items()}
    if (part == LEFT_OUT).any():
        paths[LEFT_OUT] = left_out
    with ExitStack() as stack:
        writers = {number: stack.enter_context(writing_rows(path, columns)) for number, path in paths.items()}
        for row, number in zip(rows, part, strict=True):
            writers[int(number)](row.values)
