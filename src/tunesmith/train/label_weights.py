"""``--class_weights`` where labels are learnt as text: each row carries the weight of its label, by which its tokens count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from tunesmith.config.finetune import FinetuneOptions
from tunesmith.data.columns import number_column
from tunesmith.data.labels import labels_of_cell
from tunesmith.data.prepare import Prepared
from tunesmith.data.task_file import TaskRecord
from tunesmith.errors import UsageError
from tunesmith.tasks.batches import WEIGHT
from tunesmith.tasks.label_loss import weights_of_labels

if TYPE_CHECKING:
    from datasets import Dataset


def label_weights(options: FinetuneOptions, record: TaskRecord, rows: Dataset) -> dict[str, float] | None:
    """Return the weight of each label, None without ``--class_weights``.

    Args:
        options: ``class_weights`` and ``loss``.
        record: the task, which knows its labels and their column.
        rows: the training rows, whose labels are counted.

    Raises:
        UsageError: where rows have no label, or several; for weights or a loss that don't fit.
    """
    if not options.class_weights:
        return None
    if record.name != "text-classification" or record.label_column is None:
        raise UsageError(f"--class_weights has no effect on the task {record.name}: no column holds a label", fix="Leave it out.")
    if record.multi_label:
        message = f"--class_weights: the rows have several labels in '{record.label_column}', so none has one weight as it is written"
        raise UsageError(message, fix="Add --head: there each label has a weight of its own.")
    counts = Counter(label for value in rows[record.label_column] for label in labels_of_cell(value))
    weights = weights_of_labels(options, record.labels, counts)
    return dict(zip(record.labels, weights.tolist(), strict=True))


def weigh_rows(prepared: Prepared, label_column: str, weights: Mapping[str, float]) -> Prepared:
    """Return the rows with the weight of their label in a column of its own; 1 for a label that no training row has."""
    from datasets import Value

    labels = prepared.source.select_columns([label_column])[:][label_column]
    of_source = [next((weights.get(label, 1.0) for label in labels_of_cell(value)), 1.0) for value in labels]
    column = [of_source[row] for row in number_column(prepared.dataset, "row")]
    return replace(prepared, dataset=prepared.dataset.add_column(WEIGHT, column, feature=Value("float32")))
