"""Which task a run is for, and which of its options belong to that task."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from tunesmith.config.finetune import FinetuneOptions
from tunesmith.data.placeholders import as_text
from tunesmith.data.splits import MOST_LABELS
from tunesmith.data.task_file import TASK_NAMES, TaskRecord
from tunesmith.data.templates import Template
from tunesmith.errors import UsageError, nearest

if TYPE_CHECKING:
    from datasets import Dataset

# Options that no task listens to so far.
_WITHOUT_EFFECT = ("head", "class_weights", "pooling", "answer_schema", "loss", "loss_kwargs", "teacher", "eval_metrics")


def check_task_options(options: FinetuneOptions, explicit: Iterable[str]) -> None:
    """Refuse an unknown task, and options that have no effect on the one that was named.

    Raises:
        UsageError: naming them.
    """
    if options.task is not None and options.task not in TASK_NAMES:
        fix = nearest(options.task, TASK_NAMES) or "A name of your own for the run is --task_name."
        raise UsageError(f"--task {options.task} is unknown; known: {', '.join(TASK_NAMES)}", fix=fix)
    if options.task in ("token-classification", "similarity"):
        raise UsageError(f"--task {options.task} can't be trained yet", fix="Use text-generation, text-classification or summarization.")
    idle = [name for name in _WITHOUT_EFFECT if name in set(explicit)]
    if idle:
        raise UsageError(f"{', '.join(f'--{name}' for name in idle)}: no task listens to it yet", fix="Leave it out.")


def text_task(asked: str | None, template: Template, rows: Dataset) -> TaskRecord:
    """Return the record of a task that is learnt as text.

    Args:
        asked: ``--task``; without it the rows decide.
        template: how a row becomes text; it knows the column of the answer.
        rows: the training rows, whose labels are the ones there are to choose from.
    """
    name, column = asked or template.task, template.answer_column
    if name != "text-classification" or column is None:
        return TaskRecord(name=name, label_column=column)
    labels = sort_labels({label for label in map(as_text, rows[column]) if label.strip()})
    if asked is None and (len(labels) > MOST_LABELS or len(labels) == len(rows)):  # answers that never repeat are no labels
        return TaskRecord(label_column=column)
    return TaskRecord(name=name, labels=labels, label_column=column)


def sort_labels(labels: Iterable[str]) -> tuple[str, ...]:
    """Sort labels, whole numbers by their value."""
    found = list(labels)
    return tuple(sorted(found, key=int) if all(label.lstrip("-").isdecimal() for label in found) else sorted(found))
