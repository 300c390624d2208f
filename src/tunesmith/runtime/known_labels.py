"""Which labels a model that writes text chooses among."""

from __future__ import annotations

from collections.abc import Sequence

from tunesmith.data.task_file import TaskRecord
from tunesmith.errors import UsageError


def known_labels(task: TaskRecord, labels: Sequence[str] | None) -> tuple[str, ...]:
    """Return the labels that are named, each once, or else those that the model was trained on.

    Raises:
        UsageError: when there are none, one is empty, or the model was trained to list any number of its labels.
    """
    if labels is None and (task.name != "text-classification" or not task.labels):
        raise UsageError(f"this model was trained for {task.name} and knows no labels to choose from", fix="Name the labels")
    if labels is None and task.multi_label:
        raise UsageError("this model lists any number of its labels and chooses no single one", fix="Ask with generate")
    known = tuple(dict.fromkeys(task.labels if labels is None else labels))
    if not known or not all(label.strip() for label in known):
        raise UsageError("there is no label to choose from" if not known else "a label is empty", fix="Name the labels")
    return known
