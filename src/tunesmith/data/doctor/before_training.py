"""The quick part of the examination, before each training: what can be seen in a second or two."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.data.doctor.checks import Context
from tunesmith.data.doctor.examine import Examination
from tunesmith.data.doctor.findings import Finding, Places
from tunesmith.data.doctor.roles import Roles, find_roles
from tunesmith.data.provenance import FILE_COLUMN, ROW_COLUMN, data_columns
from tunesmith.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

    from tunesmith.data.formats import Format
    from tunesmith.data.sources import Splits

log = logging.getLogger(__name__)

#: Checks that need neither sketches nor models; what is missing or too long, training says itself when it drops or cuts it.
QUICK = ("duplicates", "leakage", "conflicts", "labels", "special_tokens", "encoding")
#: Errors that stop; others are said only: a leak makes figures flatter, but one may want them.
STOPPING = frozenset({"special_token"})
#: Rows of each split that are looked at, the first ones.
MOST_ROWS = 50_000
BATCH_ROWS = 1000
MOST_LINES = 3


def check_before_training(
    splits: Splits,
    tokenizer: PreTrainedTokenizerBase,
    *,
    form: Format | None = None,
    text_template: str | None = None,
    text_field: str | None = None,
    generates: bool = True,
) -> list[Finding]:
    """Look at the rows of a run: exact duplicates, leaks, contradicting and rare labels, special tokens, wrong encodings.

    Args:
        splits: as :func:`tunesmith.data.sources.load_splits` reads them.
        tokenizer: of the run.
        form: the rows' format; None where a template says how they become text.
        text_template, text_field: that template.
        generates: whether the model writes text; to one that ends in a head, a special token in a text does little.

    Returns: warnings and errors, the errors first; an error means that training would go wrong.
    """
    columns = data_columns(splits.train)
    roles = Roles(form) if form is not None else find_roles(columns, text_template=text_template, text_field=text_field)
    examination = Examination(Context(Places(), roles, tokenizer), QUICK)
    for split, rows in (("train", splits.train), ("validation", splits.validation), ("test", splits.test)):
        if rows is not None:
            _see(examination, split, rows)
    findings, _, _ = examination.finish()
    softened = [_softened(finding, generates) for finding in findings if finding.severity != "note"]
    return sorted(softened, key=lambda finding: finding.severity != "error")


def stop_or_say(
    splits: Splits,
    tokenizer: PreTrainedTokenizerBase,
    *,
    form: Format | None = None,
    text_template: str | None = None,
    text_field: str | None = None,
    generates: bool = True,
) -> None:
    """Look at the rows of a run before it: warnings are logged in at most three lines, an error stops.

    Args: as for :func:`check_before_training`.

    Raises:
        DataError: naming the first error and how to see all.
    """
    findings = check_before_training(splits, tokenizer, form=form, text_template=text_template, text_field=text_field, generates=generates)
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        more = f" ({len(errors) - 1:,} more like it)" if len(errors) > 1 else ""
        fix = f"{errors[0].fix}. See all: {see_all(splits)}"
        raise DataError(f"{errors[0].place}: {errors[0].message}{more}", fix=fix)
    for line in in_lines(findings, see_all(splits)):
        log.warning("%s", line)


def _see(examination: Examination, split: str, rows: Dataset) -> None:
    rows = rows.select(range(min(MOST_ROWS, len(rows)))) if len(rows) > MOST_ROWS else rows
    names = rows.features[FILE_COLUMN].names if FILE_COLUMN in rows.column_names else [""]
    columns = data_columns(rows)
    at = 0
    for batch in rows.with_format(None).iter(batch_size=BATCH_ROWS):
        numbers = batch.get(ROW_COLUMN) or range(at + 1, at + 1 + len(batch[columns[0]]))
        files = batch.get(FILE_COLUMN) or [0] * len(numbers)
        for values, number, file in zip(zip(*(batch[name] for name in columns), strict=True), numbers, files, strict=True):
            row = dict(zip(columns, values, strict=True))
            examination.see(row, split=split, file=names[file], row=number, line=None)
        at += len(numbers)


def _softened(finding: Finding, generates: bool) -> Finding:
    stops = generates and finding.check in STOPPING
    return finding if finding.severity != "error" or stops else dataclasses.replace(finding, severity="warning")


def see_all(splits: Splits) -> str:
    """Return the command that shows everything about the rows of a run."""
    local = Path(splits.origin).exists() or not splits.files
    files = [splits.origin] if local else [*splits.files[:MOST_LINES], *(["…"] if len(splits.files) > MOST_LINES else [])]
    return f"tunesmith data check {' '.join(files)}"


def in_lines(findings: Sequence[Finding], command: str) -> list[str]:
    """Return at most ``MOST_LINES`` lines that say the warnings: each kind with its number and its first row."""
    kinds: dict[str, list[Finding]] = {}
    for finding in findings:
        if finding.severity == "warning":
            kinds.setdefault(finding.check, []).append(finding)
    ordered = sorted(kinds.values(), key=lambda found: -len(found))
    lines = [_line(found) for found in ordered]
    if len(lines) > MOST_LINES:
        rest = ", ".join(f"{len(found):,} {found[0].check}" for found in ordered[MOST_LINES - 1 :])
        return [*lines[: MOST_LINES - 1], f"Also {rest}. All of it: {command}"]
    if lines:
        lines[-1] += f" All of it: {command}"
    return lines


def _line(found: Sequence[Finding]) -> str:
    first = found[0]
    number = f"{len(found):,} {first.check}, the first: " if len(found) > 1 else f"{first.check}: "
    return f"{number}{first}."
