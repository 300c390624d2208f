"""Labels as they stand in rows: one, or several in a list; and their order."""

from __future__ import annotations

from collections.abc import Iterable

from tunesmith.data.placeholders import as_text


def labels_of_cell(value: object) -> list[str]:
    """Return the labels in a cell: none for an empty one, one for a text, a number or a truth value, several for a list."""
    values = value if isinstance(value, (list, tuple)) else [value]
    return [text for text in map(as_text, values) if text.strip()]


def sort_labels(labels: Iterable[str]) -> tuple[str, ...]:
    """Sort labels, whole numbers by their value."""
    found = list(labels)
    return tuple(sorted(found, key=int) if all(label.lstrip("-").isdecimal() for label in found) else sorted(found))
