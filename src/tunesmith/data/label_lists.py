"""Several labels a row, learnt as text: a JSON list of labels, each at most once, in one order."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from tunesmith.data.labels import labels_of_cell, sort_labels

if TYPE_CHECKING:
    from datasets import Dataset

_STAND_IN = "_labels"


def has_label_lists(rows: Dataset, column: str | None) -> bool:
    """Return whether rows have lists of labels in a column, and several in one of them at least."""
    if column is None or column not in rows.column_names:
        return False
    return any(isinstance(value, (list, tuple)) and len(labels_of_cell(value)) > 1 for value in rows[column])


def known_labels(cells: Iterable[object]) -> tuple[str, ...]:
    """Return all labels in cells, in the order in which every list of them is written."""
    return sort_labels({label for value in cells for label in labels_of_cell(value)})


def with_label_lists(rows: Dataset, column: str, labels: Sequence[str]) -> Dataset:
    """Return rows with the labels in a column as a JSON list; an empty cell is a list of none.

    Args:
        rows, column: where the labels are.
        labels: all that are known, in their order; others come behind.
    """
    from datasets import Value

    order = {label: number for number, label in enumerate(labels)}
    texts = [write_labels(sorted(labels_of_cell(value), key=lambda label: (order.get(label, len(order)), label))) for value in rows[column]]
    added = rows.add_column(_STAND_IN, texts, feature=Value("string"))  # removed first, a single column would leave no rows to add to
    return added.remove_columns(column).rename_column(_STAND_IN, column)


def write_labels(labels: Iterable[str]) -> str:
    """Return labels as the text that a model learns, each once."""
    return json.dumps(list(dict.fromkeys(labels)), ensure_ascii=False)


def read_labels(value: Any) -> list[str]:
    """Return the labels of a cell, or of a text written by :func:`write_labels`; a text that is no JSON list is one label."""
    if isinstance(value, str):
        try:
            found = json.loads(value)
        except (ValueError, RecursionError):
            found = None
        if isinstance(found, list):
            return labels_of_cell(found)
    return labels_of_cell(value)
