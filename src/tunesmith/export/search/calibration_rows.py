"""The rows that calibrating recipes look at: named ones, else the run's own training rows, else general text; never the held-out ones."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from tunesmith.data.provenance import data_columns
from tunesmith.data.task_file import TaskRecord
from tunesmith.errors import DataError, UserError
from tunesmith.evaluate.finished_run import FinishedRun, read_splits, spread
from tunesmith.evaluate.forgetting import documentation
from tunesmith.evaluate.test_set import read_test_set
from tunesmith.export.evaluation_set import PLAIN
from tunesmith.runtime.scoring import encode_pairs

if TYPE_CHECKING:
    from tunesmith.data.templates import PromptValue, Template
    from tunesmith.export.source import ExportSource

log = logging.getLogger(__name__)

Row = Mapping[str, Any]
#: What is looked at, at most: every recipe runs all of it through the model, and some thousand tokens tell the inputs of a layer.
MOST_ROWS, MOST_TOKENS, MOST_ROW_TOKENS = 256, 8192, 1024
#: Rows of a stream are read so far.
_MOST_READ = 200_000


@dataclass(frozen=True)
class CalibrationRows:
    """Token ids to calibrate on.

    Attributes:
        ids: prompts with their answers.
        words: where they come from.
    """

    ids: tuple[tuple[int, ...], ...]
    words: str


def calibration_rows(source: ExportSource, files: Sequence[str] | None, held_out: Sequence[Row]) -> CalibrationRows:
    """Return what recipes are calibrated on.

    Args:
        source: what is exported.
        files: rows with the columns of training; by default those that the run trained on, where they are found again.
        held_out: rows that recipes are judged by, which are left out.

    Raises:
        DataError: for named files that can't be read, or have no row with the columns of training.
    """
    template = source.template
    apart = {_content(row) for row in (*held_out, *source.rows)}
    if files is not None:
        named = list(islice(read_test_set(list(files), None), _MOST_READ))
        pairs = _pairs([row for row in named if _content(row) not in apart], template)
        if not pairs:
            raise _no_pair(named, template, files, held_out=bool(apart) and bool(_pairs(named, template)))
        return _encoded(source, pairs, template, f"rows of {', '.join(files)}")
    try:
        rows = [row for row in _training_rows(source) if _content(row) not in apart]
    except UserError as error:
        log.info("The run's training rows can't be read any more: %s", error)
        rows = []
    if pairs := _pairs(rows, template):
        return _encoded(source, pairs, template, "the run's training rows")
    texts: list[tuple[PromptValue, str]] = [({"text": text}, text) for text in documentation()]
    return _encoded(source, texts, PLAIN, "paragraphs of the standard library's documentation")


def _training_rows(source: ExportSource) -> Iterable[Row]:
    manifest, run = source.manifest, source.run
    if manifest is None or run is None:
        return []
    finished = FinishedRun(run, manifest, source.template, source.task or TaskRecord("text-generation"), ())
    rows = read_splits(finished).train
    return islice(iter(rows.select_columns(data_columns(rows))), _MOST_READ)  # as the held-out rows were written: without their origin


def _pairs(rows: Sequence[Row], template: Template) -> list[tuple[PromptValue, str]]:
    """Prompts with answers, of the rows that have both."""
    needed = (*template.prompt_columns, *((template.answer_column,) if template.answer_column else ()))
    found: list[tuple[PromptValue, str]] = []
    for row in rows:
        if all(row.get(name) is not None for name in needed):
            with contextlib.suppress(DataError):  # a conversation without turns: counted with those that lack a column
                found += [(row, text.strip()) for text in template.answers(row) if text.strip()][:1]
    return found


def _no_pair(rows: Sequence[Row], template: Template, files: Sequence[str], *, held_out: bool) -> DataError:
    place = ", ".join(files)
    if held_out:
        return DataError("all rows are held-out ones, which recipes are judged by", file=place, fix="Name other --calibration_files")
    needed = ", ".join(dict.fromkeys([*template.prompt_columns, *([template.answer_column] if template.answer_column else [])]))
    found = ", ".join(rows[0]) if rows else "nothing"
    what = f"no row has what the model was trained on: {needed or 'a prompt and an answer'}; there is: {found}"
    return DataError(what, file=place, fix="Name --calibration_files with the columns of training")


def _encoded(source: ExportSource, pairs: Sequence[tuple[PromptValue, str]], template: Template, words: str) -> CalibrationRows:
    """Token ids of rows spread over all, as many as are worth it."""
    chosen = spread(pairs, MOST_ROWS)
    ids: list[tuple[int, ...]] = []
    for one in encode_pairs(chosen, template, source.tokenizer):
        if sum(map(len, ids)) >= MOST_TOKENS:
            break
        if one.ids:
            ids.append(tuple(one.ids[-MOST_ROW_TOKENS:]))
    return CalibrationRows(tuple(ids), f"{len(ids):,} of {words}")


def _content(row: Row) -> str:
    return json.dumps(row, sort_keys=True, ensure_ascii=False, default=str)
