"""Rows of files for the commands that write them anew: in order, with their places, stopping at the first that can't be read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunesmith.data.columns import check_mapping
from tunesmith.data.doctor.findings import Finding, place_in_words
from tunesmith.data.doctor.reading import read_rows
from tunesmith.data.doctor.roles import Roles, find_roles
from tunesmith.data.named_rows import RowSource
from tunesmith.errors import DataError

#: Rows by which the format is recognized.
FIRST_ROWS = 100


@dataclass(frozen=True)
class PlacedRow:
    """A row and where it stands."""

    file: str
    row: int
    line: int | None
    values: dict[str, Any]

    @property
    def place(self) -> str:
        """Where it stands, in words."""
        return place_in_words(self.file, self.row, self.line)


def iterate_rows(paths: Sequence[RowSource], map_columns: Mapping[str, str] | None = None) -> Iterator[PlacedRow]:
    """Yield the rows of files.

    Raises:
        DataError: at the first row that can't be read, and for files without a row.
    """
    renamed = map_columns or {}
    for path in paths:
        empty = True
        for found in read_rows(path):
            if isinstance(found, Finding):
                fix = f"See all of them: tunesmith data check {path}"
                raise DataError(found.message, file=found.place, fix=fix)
            empty = False
            values = {renamed.get(name, name): value for name, value in found.values.items()} if renamed else found.values
            yield PlacedRow(str(path), found.row, found.line, values)
        if empty:
            raise DataError("the file holds no row", file=str(path), fix='Write one row a line, e.g. {"text": "…", "label": "…"}')


def columns_of(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the columns of rows, in the order in which they come."""
    return list(dict.fromkeys(name for row in rows for name in row))


def roles_of_files(
    paths: Sequence[RowSource],
    *,
    map_columns: Mapping[str, str] | None = None,
    text_template: str | None = None,
    text_field: str | None = None,
) -> Roles:
    """Return which column is what, by the first rows.

    Raises:
        DataError: for rows that can't be read, a format that isn't known, a template or mapping that doesn't fit.
    """
    first: list[dict[str, Any]] = []
    for found in iterate_rows(paths):
        first.append(found.values)
        if len(first) >= FIRST_ROWS:
            break
    check_mapping(map_columns or {}, columns_of(first), origin=str(paths[0]))
    names = [(map_columns or {}).get(name, name) for name in columns_of(first)]
    roles = find_roles(names, text_template=text_template, text_field=text_field)
    if roles.unknown:
        raise DataError(roles.unknown, file=str(paths[0]))
    return roles
