"""The examination: rows of files, once through all checks."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tunesmith.data.columns import check_mapping
from tunesmith.data.doctor import CHECKS
from tunesmith.data.doctor.checks import Check, Context
from tunesmith.data.doctor.findings import Finding, Places, Severity
from tunesmith.data.doctor.reading import FileRow, read_rows
from tunesmith.data.doctor.report import Report
from tunesmith.data.doctor.roles import Roles, find_roles
from tunesmith.data.named_rows import RowSource
from tunesmith.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from tunesmith.data.templates import Template

log = logging.getLogger(__name__)

#: Findings of a kind that are kept; further ones are counted.
MOST_LISTED = 10_000
#: Rows by which the format is recognized.
FIRST_ROWS = 100
PROGRESS_ROWS = 100_000


class Examination:
    """Checks at work: give it every row, then ask for what they found."""

    def __init__(self, context: Context, checks: Sequence[str] | None = None, *, most_listed: int = MOST_LISTED) -> None:
        """Set the checks up.

        Args:
            context: what they may need.
            checks: names in :data:`CHECKS`; all when None.
            most_listed: findings of a kind that are kept.

        Raises:
            UsageError: for a name that is no check.
        """
        self.context = context
        self.checks = [self._load(name, context) for name in (CHECKS.names() if checks is None else checks)]
        self.num_rows = 0
        self._counts: Counter[tuple[str, Severity]] = Counter()
        self._findings: list[Finding] = []
        self._most_listed = most_listed

    @staticmethod
    def _load(name: str, context: Context) -> Check:
        made = CHECKS.load(name)
        assert isinstance(made, type)
        check = made(context)
        assert isinstance(check, Check)
        return check

    def add(self, findings: Iterable[Finding]) -> None:
        """Take findings in."""
        for finding in findings:
            kind = (finding.check, finding.severity)
            self._counts[kind] += 1
            if self._counts[kind] <= self._most_listed:
                self._findings.append(finding)

    def unreadable(self, finding: Finding) -> None:
        """Count a row that could not be read."""
        self.num_rows += 1
        self.add([finding])

    def see(self, values: Mapping[str, Any], *, split: str, file: str, row: int, line: int | None) -> None:
        """Show a row to all checks."""
        self.num_rows += 1
        index = self.context.places.add(file, row, line)
        try:
            seen = self.context.roles.row(values, self.context.places, index=index, split=split)
        except (DataError, AttributeError, TypeError) as error:  # turns that are no objects fail in many ways
            fix = error.fix if isinstance(error, DataError) else None
            message = error.message if isinstance(error, DataError) else f"not a conversation: {error}"
            self.add([self.context.places.finding(index, "bad_conversation", "error", message, fix or "")])
            return
        for check in self.checks:
            self.add(check.see(seen))
        if self.num_rows % PROGRESS_ROWS == 0:
            log.info("%s rows examined.", f"{self.num_rows:,}")

    def finish(self) -> tuple[tuple[Finding, ...], Mapping[tuple[str, Severity], int], dict[str, Any]]:
        """Return findings in order, counts and figures."""
        for check in self.checks:
            self.add(check.finish())
        figures: dict[str, Any] = {}
        for check in self.checks:
            figures.update(check.figures())
        files = {file: number for number, file in enumerate(dict.fromkeys(self.context.places.files))}
        ordered = sorted(self._findings, key=lambda one: (files.get(one.file or "", -1), one.row or 0))
        return tuple(ordered), dict(self._counts), figures


def examine(
    files: Mapping[str, Sequence[RowSource]],
    *,
    checks: Sequence[str] | None = None,
    text_template: str | None = None,
    text_field: str | None = None,
    map_columns: Mapping[str, str] | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    max_seq_len: int | None = None,
    phone_region: str | None = "US",
) -> Report:
    """Examine files of rows, in one pass and in memory that grows by about 1,100 bytes a row, however long rows are.

    Args:
        files: split (``train``, ``validation``, ``test``) -> files, or rows that have a name instead.
        checks: names in :data:`tunesmith.data.doctor.CHECKS`; all when None.
        text_template, text_field: how rows become text, where their format isn't to decide.
        map_columns: old name -> new name.
        tokenizer: of the model that is to be trained; without it, lengths in tokens and the model's own special tokens aren't checked.
        max_seq_len: most tokens of a row; follows the data when None, as in training.
        phone_region: the country whose way of writing phone numbers counts beside the international one; None for none.

    Raises:
        DataError: for files that aren't there, of unknown type, or without a row that can be read; for a template that doesn't fit.
        UsageError: for a name that is no check.
    """
    paths = [path for split in files.values() for path in split]
    first = _first_rows(paths, map_columns or {})
    columns = list(dict.fromkeys(name for values in first for name in values))
    template, roles = _template(first, columns, tokenizer, text_template, text_field)
    context = Context(Places(), roles, tokenizer, template, max_seq_len, phone_region)
    examination = Examination(context, checks)
    if roles.unknown:
        examination.add([Finding("unknown_format", "warning", _first_sentence(roles.unknown), _rest(roles.unknown))])
    for split, split_paths in files.items():
        for path in split_paths:
            for found in read_rows(path):
                if isinstance(found, Finding):
                    examination.unreadable(found)
                else:
                    values = _renamed(found.values, map_columns or {})
                    examination.see(values, split=split, file=str(path), row=found.row, line=found.line)
    findings, counts, figures = examination.finish()
    name = roles.form.name if roles.form else ("read by the given template" if text_template or text_field else "of an unknown format")
    described = f"{name} rows ({roles.form.task})" if roles.form else name
    return Report(tuple(map(str, paths)), examination.num_rows, findings, counts, figures, described)


def _first_rows(paths: Sequence[RowSource], map_columns: Mapping[str, str]) -> list[Mapping[str, Any]]:
    """Return some rows of the first file that has any.

    Raises:
        DataError: when no file has a row, or a column to be renamed isn't there.
    """
    for path in paths:
        rows = [found.values for found in _readable(path, FIRST_ROWS)]
        if rows:
            check_mapping(map_columns, list(dict.fromkeys(name for values in rows for name in values)), origin=str(path))
            return [_renamed(values, map_columns) for values in rows]
    found = next(iter(read_rows(paths[0])), None)
    if isinstance(found, Finding):
        raise DataError(f"no row can be read; the first: {found.message}", file=found.place, fix=found.fix or None)
    raise DataError("the file holds no row", file=str(paths[0]), fix='Write one row a line, e.g. {"text": "…", "label": "…"}')


def _readable(path: RowSource, most: int) -> Iterator[FileRow]:
    for found in read_rows(path):
        if isinstance(found, FileRow):
            yield found
            most -= 1
            if not most:
                return


def _renamed(values: Mapping[str, Any], map_columns: Mapping[str, str]) -> Mapping[str, Any]:
    return {map_columns.get(name, name): value for name, value in values.items()} if map_columns else values


def _template(
    first: Sequence[Mapping[str, Any]],
    columns: Sequence[str],
    tokenizer: PreTrainedTokenizerBase | None,
    text_template: str | None,
    text_field: str | None,
) -> tuple[Template | None, Roles]:
    """Choose the template as training would, where there is a tokenizer; and say which column is what."""
    roles = find_roles(columns, text_template=text_template, text_field=text_field)
    if tokenizer is None or roles.unknown:
        return None, roles
    from tunesmith.data.templates import choose_template

    template = choose_template(roles.form, columns, tokenizer, text_template=text_template, text_field=text_field, rows=first)
    return template, roles


def _first_sentence(text: str) -> str:
    return text.partition(". ")[0]


def _rest(text: str) -> str:
    return text.partition(". ")[2]
