"""Data made fit for training: what can be mended is mended, the rest is taken out and listed with the reason."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tunesmith.data.columns import check_mapping
from tunesmith.data.doctor.checks import Row, shown
from tunesmith.data.doctor.findings import Finding, Places, place_in_words
from tunesmith.data.doctor.labels import are_labels, label_key
from tunesmith.data.doctor.reading import FileRow, read_rows
from tunesmith.data.doctor.roles import Roles, find_roles
from tunesmith.data.mending import mend_values
from tunesmith.data.named_rows import RowSource
from tunesmith.data.rows_of_files import FIRST_ROWS, columns_of
from tunesmith.data.writing import check_output_file, writing_rows
from tunesmith.errors import DataError

Conflicts = Literal["majority", "drop", "keep"]
#: What lines that are not UTF-8 most likely are: Windows' Western encoding, which holds Latin-1's letters too.
FALLBACK = "cp1252"


@dataclass(frozen=True)
class Cleaned:
    """What cleaning did.

    Attributes:
        output_path: the rows that are left.
        removed_path: the rows that are not, each with the reason; None when there are none.
        num_rows, num_kept: rows read and left.
        mended: kind of mending -> rows.
        removed: reason -> rows.
    """

    output_path: Path
    removed_path: Path | None
    num_rows: int
    num_kept: int
    mended: Mapping[str, int] = field(default_factory=dict)
    removed: Mapping[str, int] = field(default_factory=dict)

    def words(self) -> list[str]:
        """Return what was done, line by line."""
        lines = [f"{self.num_kept:,} of {self.num_rows:,} rows kept: {self.output_path}"]
        lines += [f"mended  {count:>7,} {kind}" for kind, count in self.mended.items()]
        lines += [f"removed {count:>7,} {reason}" for reason, count in self.removed.items()]
        return [*lines, f"The removed rows, with reasons: {self.removed_path}"] if self.removed_path else lines


@dataclass(frozen=True)
class _Read:
    """A row that was read and mended, or why it can't be."""

    file: str
    row: int | None
    line: int | None
    values: dict[str, Any]
    mended: frozenset[str]
    refused: tuple[str, str] | None = None
    seen: Row | None = None


def clean(
    files: Sequence[RowSource],
    output_path: Path,
    *,
    test_files: Sequence[RowSource] = (),
    conflicts: Conflicts = "majority",
    text_template: str | None = None,
    text_field: str | None = None,
    map_columns: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> Cleaned:
    """Write rows anew, in two passes: encodings, blanks, spellings of labels mended; what can't be learnt from taken out.

    Args:
        files: training rows.
        output_path: where the rows go that are left; removed ones go beside it, to ``NAME.removed.jsonl``.
        test_files: rows that ask what one of these asks are taken out.
        conflicts: of labels for one text: keep those of the ``majority`` (none where it is a tie), ``drop`` all, or ``keep`` all.
        text_template, text_field: how rows become text, where their format isn't to decide.
        map_columns: old name -> new name, also in the output.
        overwrite: replace the outputs.

    Raises:
        DataError: for files that can't be read at all.
        OutputError: when the outputs are there already or can't be written.
    """
    removed_path = output_path.with_name(f"{output_path.stem}.removed.jsonl")
    for path in (output_path, removed_path):
        check_output_file(path, overwrite=overwrite, inputs=[*files, *test_files])
    columns, roles = _columns_and_roles([*files], map_columns or {}, text_template, text_field)
    source = _Source(roles, map_columns or {})
    held = {row.seen.asked_hash for row in source.rows(test_files) if row.seen is not None}
    plan = _plan(source.rows(files), roles, conflicts)
    mended: Counter[str] = Counter()
    removed: Counter[str] = Counter()
    seen: dict[int, str] = {}
    num_rows = 0
    with writing_rows(output_path, columns) as keep, writing_rows(removed_path, ()) as remove:
        for row in source.rows(files):
            num_rows += 1
            reason = row.refused or plan.reason(row) or _already(row, seen, held)
            if reason is not None:
                removed[reason[0]] += 1
                remove({"file": row.file, "row": row.row, "line": row.line, "reason": reason[0], "why": reason[1], "values": row.values})
                continue
            values, respelt = plan.spelt(row)
            mended.update([*sorted(row.mended), *(["label_spelling"] if respelt else [])])
            keep(values)
        if sum(removed.values()) == num_rows:
            raise DataError(f"no row is left of {num_rows:,}: {_most(removed)}", file=str(files[0]), fix="See: tunesmith data check")
    if not removed:
        removed_path.unlink()
    kept = num_rows - sum(removed.values())
    return Cleaned(
        output_path,
        removed_path if removed else None,
        num_rows,
        kept,
        dict(mended.most_common()),
        dict(removed.most_common()),
    )


def _most(removed: Counter[str]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in removed.most_common())


def _columns_and_roles(
    files: Sequence[RowSource], map_columns: Mapping[str, str], text_template: str | None, text_field: str | None
) -> tuple[list[str], Roles]:
    """Return all columns of the rows that can be read, and which is what by the first of them."""
    columns: dict[str, None] = {}
    first: list[dict[str, Any]] = []
    for path in files:
        for found in read_rows(path, fallback=FALLBACK):
            if isinstance(found, FileRow):
                columns.update(dict.fromkeys(found.values))
                if len(first) < FIRST_ROWS:
                    first.append(found.values)
    if not first:
        raise DataError("no row can be read", file=str(files[0]), fix=f"See why: tunesmith data check {files[0]}")
    check_mapping(map_columns, list(columns), origin=str(files[0]))
    roles = find_roles([map_columns.get(name, name) for name in columns_of(first)], text_template=text_template, text_field=text_field)
    if roles.unknown:
        raise DataError(roles.unknown, file=str(files[0]))
    return [map_columns.get(name, name) for name in columns], roles


class _Source:
    """Reads rows and mends them, the same each time."""

    def __init__(self, roles: Roles, map_columns: Mapping[str, str]) -> None:
        self._roles, self._map = roles, map_columns

    def rows(self, files: Sequence[RowSource]) -> Iterator[_Read]:
        """Yield all rows, those that can't be used with the reason."""
        for path in files:
            for found in read_rows(path, fallback=FALLBACK):
                if isinstance(found, Finding):
                    yield _Read(str(path), found.row, found.line, {}, frozenset(), (found.check, found.message))
                else:
                    yield self._mended(str(path), found)

    def _mended(self, file: str, found: FileRow) -> _Read:
        kinds = {"wrong_encoding"} if found.decoded else set()
        named = {self._map.get(name, name): value for name, value in found.values.items()}
        values = mend_values(named, kinds, keep_tokens=self._roles.is_plain_text)
        refused, seen = None, None
        try:
            seen = self._roles.row(values, Places())
            refused = self._lacks(seen)
        except (DataError, AttributeError, TypeError) as error:
            refused = ("bad_conversation", str(error))
        return _Read(file, found.row, found.line, values, frozenset(kinds), refused, None if refused else seen)

    def _lacks(self, row: Row) -> tuple[str, str] | None:
        if not (row.answer or "").strip():
            return "empty_answer", f"{self._roles.answer_name()} is empty"
        form = self._roles.form
        if not row.prompt.strip() and not self._roles.is_plain_text and (self._roles.prompt_columns or (form and not form.is_conversation)):
            return "empty_prompt", "there is nothing before the answer"
        return None


@dataclass(frozen=True)
class _Plan:
    """What only all rows together tell: how labels are spelt, and which of contradicting ones are right."""

    answer_column: str | None
    spelling: Mapping[str, str]
    right: Mapping[int, str | None]

    def reason(self, row: _Read) -> tuple[str, str] | None:
        """Return why a row has to go, None when it may stay."""
        if row.seen is None or row.seen.asked_hash not in self.right:
            return None
        right = self.right[row.seen.asked_hash]
        if right is not None and label_key(right) == label_key(row.seen.answer or ""):
            return None
        return "conflicting_label", f"others have {shown(right)} for the same text" if right else "the same text has several labels"

    def spelt(self, row: _Read) -> tuple[Mapping[str, Any], bool]:
        """Return a row with its label written as in most rows, and whether that changed it."""
        column = self.answer_column
        label = row.values.get(column) if column else None
        usual = self.spelling.get(label, label) if isinstance(label, str) else label
        return ({**row.values, column: usual}, True) if column and usual != label else (row.values, False)


def _plan(rows: Iterator[_Read], roles: Roles, conflicts: Conflicts) -> _Plan:
    """Look at all answers; 16 bytes a row, and the different answers as long as they may be labels."""
    asked, number = array("Q"), array("l")
    numbers: dict[str, int] = {}
    counts: Counter[str] = Counter()
    for row in rows:
        if row.seen is not None:
            answer = (row.seen.answer or "").strip()
            asked.append(row.seen.asked_hash)
            number.append(numbers.setdefault(label_key(answer), len(numbers)))
            counts[answer] += 1
    column = roles.answer_column or (roles.form.answer_column if roles.form else None)
    if roles.is_plain_text or not are_labels(len(numbers), len(asked), roles.task):
        return _Plan(column, {}, {})
    usual: dict[str, str] = {}
    for answer, _ in counts.most_common():
        usual.setdefault(label_key(answer), answer)
    right = {} if conflicts == "keep" else _contradictions(asked, number, [usual[key] for key in numbers], conflicts)
    return _Plan(column, {answer: usual[label_key(answer)] for answer in counts}, right)


def _contradictions(asked: array[int], number: array[int], labels_by_number: list[str], conflicts: Conflicts) -> dict[int, str | None]:
    """Return for each text with several labels the right one, None where there is none."""
    import numpy as np

    texts, labels = np.frombuffer(asked, dtype=np.uint64), np.asarray(number, dtype=np.int64)
    order = np.lexsort((labels, texts))
    same_text = texts[order][1:] == texts[order][:-1]
    mixed = np.unique(texts[order][1:][same_text & (labels[order][1:] != labels[order][:-1])])
    starts, stops = (np.searchsorted(texts[order], mixed, side=side) for side in ("left", "right"))
    right: dict[int, str | None] = {}
    for text, start, stop in zip(mixed, starts, stops, strict=True):
        ranked = Counter(labels[order[start:stop]].tolist()).most_common(2)
        clear = conflicts == "majority" and ranked[0][1] > ranked[1][1]
        right[int(text)] = labels_by_number[ranked[0][0]] if clear else None
    return right


def _already(row: _Read, seen: dict[int, str], held: set[int]) -> tuple[str, str] | None:
    """Return why a row is one too many: a copy, or in the test files; remembers it otherwise."""
    assert row.seen is not None
    if row.seen.asked_hash in held:
        return "leaked_row", "a test row asks the same"
    place = place_in_words(row.file, row.row, row.line)
    first = seen.setdefault(row.seen.row_hash, place)
    return None if first is place else ("duplicate_row", f"the same as {first}")
