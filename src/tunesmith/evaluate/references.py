"""The right answers that a row holds, as a model's task reads them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tunesmith.data.json_answers import json_answer
from tunesmith.data.label_lists import read_labels
from tunesmith.data.labels import labels_of_cell

if TYPE_CHECKING:
    from tunesmith.data.task_file import TaskRecord
    from tunesmith.data.templates import Template


def right_texts(task: TaskRecord, template: Template, row: Mapping[str, Any], column: str | None = None) -> list[str]:
    """Return the texts that a model may write to be right; none for a row without an answer.

    An object or a list is one answer of an extraction; elsewhere a list is several answers, each of which is right.

    Args:
        task, template: of the model.
        row: of a test set.
        column: where the answer is; by default where the template has it.
    """
    value = row.get(column or template.answer_column or "")
    if task.name == "extraction" and value is not None and not isinstance(value, str):
        answer = json_answer(value)
        return [] if answer is None else [answer]
    if column is not None:
        return labels_of_cell(value)
    return [text.strip() for text in template.answers(row)]


def right_labels(task: TaskRecord, value: object) -> list[str]:
    """Return the labels in a cell, which a task with several labels a row may have written as one text."""
    return read_labels(value) if task.multi_label else labels_of_cell(value)


def says_none(task: TaskRecord, value: object) -> bool:
    """Return whether a cell says that none of several labels is right, which is an answer too, and not that the answer is missing."""
    return task.multi_label and (value == "[]" or (isinstance(value, (list, tuple)) and not labels_of_cell(value)))
