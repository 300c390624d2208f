"""What the doctor finds, and where."""

from __future__ import annotations

from array import array
from dataclasses import asdict, dataclass
from typing import Any, Literal

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or worth knowing.

    Attributes:
        check: its kind, e.g. ``duplicate_row``; the same word in every run, for programs.
        severity: ``error``: the row or the figures can't be trusted; ``warning``: most likely a mistake; ``note``: worth knowing.
        message: what was found.
        fix: how to mend it, empty when nothing needs mending.
        file, row, line: where; ``row`` counts rows from 1 as training's messages do, ``line`` is the line of a text file (None in other
            kinds of files). All None for what concerns the whole data.
    """

    check: str
    severity: Severity
    message: str
    fix: str = ""
    file: str | None = None
    row: int | None = None
    line: int | None = None

    @property
    def place(self) -> str:
        """Where it is: ``file:line``, or ``file, row N``, or the file; empty for what concerns the whole data."""
        return place_in_words(self.file, self.row, self.line)

    def __str__(self) -> str:
        text = f"{self.place}: {self.message}" if self.file else self.message
        return " ".join((f"{text}. {self.fix}" if self.fix else text).split())

    def to_dict(self) -> dict[str, Any]:
        """Return the finding as plain values."""
        return asdict(self)


def place_in_words(file: str | None, row: int | None, line: int | None) -> str:
    """Return ``file:line`` where a file has lines, ``file, row N`` elsewhere, the file alone without a row."""
    if file is None or (row is None and line is None):
        return file or ""
    return f"{file}:{line}" if line is not None else f"{file}, row {row}"


class Places:
    """Where every row came from: 24 bytes a row."""

    def __init__(self) -> None:
        self.files: list[str] = []
        self._file, self._row, self._line = array("q"), array("q"), array("q")

    def __len__(self) -> int:
        return len(self._row)

    def add(self, file: str, row: int, line: int | None) -> int:
        """Take note of the next row; returns its index among all rows."""
        if not self.files or self.files[-1] != file:
            self.files.append(file)
        self._file.append(len(self.files) - 1)
        self._row.append(row)
        self._line.append(-1 if line is None else line)
        return len(self._row) - 1

    def of(self, index: int) -> tuple[str, int, int | None]:
        """Return file, row and line of the row with this index."""
        line = self._line[index]
        return self.files[self._file[index]], self._row[index], None if line < 0 else line

    def name(self, index: int, *, beside: int | None = None) -> str:
        """Return the place in words; without the file where the row ``beside`` is in the same one."""
        file, row, line = self.of(index)
        if beside is not None and self._file[beside] == self._file[index]:
            return f"line {line}" if line is not None else f"row {row}"
        return place_in_words(file, row, line)

    def finding(self, index: int, check: str, severity: Severity, message: str, fix: str = "") -> Finding:
        """Return a finding about the row with this index."""
        file, row, line = self.of(index)
        return Finding(check, severity, message, fix, file, row, line)
