"""The quick part of the examination, before each training: what can be seen in a second or two."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tunesmith.data.doctor.checks import Context
from tunesmith.data.doctor.examine import Examination
from tunesmith.data.doctor.findings import Finding, Places
from tunesmith.data.doctor.roles import roles_of_template
from tunesmith.data.provenance import FILE_COLUMN, ROW_COLUMN, data_columns

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

    from tunesmith.data.sources import Splits
    from tunesmith.data.templates import Template

#: Checks that need neither sketches nor models; what is missing or too long, training says itself when it drops or cuts it.
QUICK = ("duplicates", "leakage", "conflicts", "labels", "special_tokens", "encoding")
#: Errors that stop; others are said only: a leak makes figures flatter, but one may want them.
STOPPING = frozenset({"special_token"})
#: Rows of each split that are looked at, the first ones.
MOST_ROWS = 50_000
BATCH_ROWS = 1000
MOST_LINES = 3


def check_before_training(splits: Splits, template: Template, tokenizer: PreTrainedTokenizerBase) -> list[Finding]:
    """Look at the rows of a run: exact duplicates, leaks, contradicting and rare labels, special tokens, wrong encodings.

    Args:
        splits: as :func:`tunesmith.data.sources.load_splits` reads them.
        template, tokenizer: of the run.

    Returns: the findings, errors first; an error means that training would go wrong.
    """
    columns = data_columns(splits.train)
    context = Context(Places(), roles_of_template(template, columns), tokenizer, template)
    examination = Examination(context, QUICK)
    for split, rows in (("train", splits.train), ("validation", splits.validation), ("test", splits.test)):
        if rows is not None:
            _see(examination, split, rows)
    findings, _, _ = examination.finish()
    softened = [_softened(finding) for finding in findings if finding.severity != "note"]
    return sorted(softened, key=lambda finding: finding.severity != "error")


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


def _softened(finding: Finding) -> Finding:
    stops = finding.severity != "error" or finding.check in STOPPING
    return finding if stops else dataclasses.replace(finding, severity="warning")


def in_lines(findings: Sequence[Finding], origin: str) -> list[str]:
    """Return at most ``MOST_LINES`` lines that say the warnings: each kind with its number and its first row."""
    kinds: dict[str, list[Finding]] = {}
    for finding in findings:
        if finding.severity == "warning":
            kinds.setdefault(finding.check, []).append(finding)
    ordered = sorted(kinds.values(), key=lambda found: -len(found))
    lines = [_line(found) for found in ordered]
    see_all = f"All of it: tunesmith data check {origin}"
    if len(lines) > MOST_LINES:
        rest = ", ".join(f"{len(found):,} {found[0].check}" for found in ordered[MOST_LINES - 1 :])
        return [*lines[: MOST_LINES - 1], f"Also {rest}. {see_all}"]
    if lines:
        lines[-1] += f" {see_all}"
    return lines


def _line(found: Sequence[Finding]) -> str:
    first = found[0]
    number = f"{len(found):,} {first.check}, the first: " if len(found) > 1 else f"{first.check}: "
    return f"{number}{first}."
