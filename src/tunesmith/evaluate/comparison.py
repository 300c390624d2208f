"""Two models on the same rows: which is better, and how certain that is."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.data.formats import recognize
from tunesmith.data.labels import labels_of_cell, sort_labels
from tunesmith.data.provenance import data_columns
from tunesmith.data.splits import MOST_LABELS
from tunesmith.data.task_file import TaskRecord
from tunesmith.data.templates import Template, choose_template
from tunesmith.errors import UsageError
from tunesmith.evaluate.evaluation import Evaluation, evaluate
from tunesmith.evaluate.finished_run import spread
from tunesmith.evaluate.judge import answer_room, main_metric, score_name
from tunesmith.evaluate.untuned import is_untuned
from tunesmith.evaluate.verdict import Names, Verdict, decide
from tunesmith.metrics import load_metric

if TYPE_CHECKING:
    from datasets import Dataset

    from tunesmith.runtime.protocol import Runtime


@dataclass(frozen=True)
class Asked:
    """How rows are put to a model: the template, which a model with a head has not, and the task."""

    template: Template | None
    task: TaskRecord


def compare(
    load_first: Callable[[], Runtime],
    load_second: Callable[[], Runtime],
    rows: Dataset,
    *,
    names: Names,
    metric: str | None = None,
    max_rows: int | None = None,
    max_new_tokens: int | None = None,
    predictions: tuple[Path, Path] | None = None,
    origin: str | None = None,
    seed: int = 0,
) -> Verdict:
    """Let two models answer the same rows, one after the other so that they need not fit into memory together.

    Args:
        load_first, load_second: give the models; the verdict says what the second is, measured by the first.
        rows: with prompts and right answers.
        names: what the models are called.
        metric: what decides; that of the task by default. It has to mean something for a single row.
        max_rows: most rows that are asked, spread evenly; None for all.
        max_new_tokens: where answers are cut; by default half as long again as the longest reference.
        predictions: files for the answers of both.
        origin: what messages call the rows.
        seed: of the bootstrap.

    Raises:
        UsageError: for a metric that has no meaning for a single row, or models whose tasks can't be compared.
        DataError: for rows that can't be read as questions with answers.
    """
    chosen = rows.select(spread(range(len(rows)), max_rows))
    first, second = load_first(), None
    how = asked(first)
    if how is None:  # the first was never tuned: how the second was trained says how to ask both
        second = load_second()
        how = asked(second) or plain(second, chosen, origin)
    as_rows = [{name: row[name] for name in data_columns(chosen)} for row in chosen]
    metric = metric or main_metric(how.task, how.template, as_rows)
    measure = load_metric(metric)
    if measure.per_row([], []) is None:
        raise UsageError(f"the metric {metric} has no meaning for a single row, so models can't be compared by it in pairs")

    def score(runtime: Runtime, file: Path | None) -> Evaluation:
        runtime = ask_as(runtime, how, data_columns(chosen))
        room = max_new_tokens or answer_room(runtime, None if runtime.task.head else runtime.template, as_rows)
        return evaluate(runtime, as_rows, metrics=[metric], max_new_tokens=room, predictions_file=file)

    files: tuple[Path | None, Path | None] = predictions or (None, None)
    found_first = score(first, files[0])
    del first
    gc.collect()
    found_second = score(second or load_second(), files[1])
    scores = found_first.rows[measure.name], found_second.rows[measure.name]
    if len(scores[0]) != len(scores[1]):
        found = f"{len(scores[0]):,} rows have a right answer for {names.base}, {len(scores[1]):,} for {names.tuned}"
        raise UsageError(
            f"{found}, so they can't be compared in pairs",
            fix="Give rows that have the columns of both: --map_columns OLD=NEW",
        )
    return decide(score_name(metric), *scores, names=names, seed=seed)


def asked(runtime: Runtime) -> Asked | None:
    """Return how a tuned model was asked in training; None for a model that was not tuned here."""
    if runtime.task.head:
        return Asked(None, runtime.task)
    return None if is_untuned(runtime.template) else Asked(runtime.template, runtime.task)


def plain(runtime: Runtime, rows: Dataset, origin: str | None) -> Asked:
    """Return how to ask two models that were not tuned: as the rows are recognized, with the labels that the rows hold."""
    form = recognize(rows, origin=origin)
    template = choose_template(form, data_columns(rows), runtime.tokenizer)
    if form.task != "text-classification" or form.answer_column is None:
        return Asked(template, TaskRecord(form.task, label_column=form.answer_column))
    labels = sort_labels({label for value in rows[form.answer_column] for label in labels_of_cell(value)})
    if len(labels) > MOST_LABELS or len(labels) == len(rows):  # answers that never repeat are no labels
        return Asked(template, TaskRecord(label_column=form.answer_column))
    return Asked(template, TaskRecord(form.task, labels=labels, label_column=form.answer_column))


def ask_as(runtime: Runtime, how: Asked, columns: Sequence[str]) -> Runtime:
    """Return a model that is asked in this way, when it was not tuned: with its own chat template, the columns and task of the other.

    Raises:
        UsageError: when a model with a head meets one without.
    """
    if asked(runtime) is not None:
        return runtime
    if how.template is None:
        raise UsageError(f"a model with a head for {how.task.name} can't be compared with one that was not trained for it")
    from tunesmith.data.formats import Format

    template = how.template
    if template.kind == "chat" and template.format is not None:
        form = Format(template.format, template.task, template.columns)
        template = choose_template(form, columns, runtime.tokenizer)
    return runtime.with_template(template, how.task)
