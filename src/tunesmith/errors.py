"""Every error that tunesmith raises on purpose, in one tree.

    TunesmithError              exit status 1: our mistake, or nobody's
    ├── ShapeError              tensors that don't fit together
    ├── ExportHarm              an export that lost more than its tolerances allow
    └── UserError               exit status 2: something the user can mend
        ├── UsageError          a flag, an option or their combination
        ├── ConfigError         a configuration file; carries all its problems at once
        ├── DataError           a file, a row, a column or a template
        ├── ModelError          a model, tokenizer or adapter that can't be used
        ├── OutputError         a folder that exists, can't be written, or a full disk
        ├── DependencyError     an extra that is not installed
        ├── TrainingError       a loss that is not a number, memory that ran out
        └── ResumeError         a checkpoint that doesn't belong to this run

A message is one line that says what was asked and what was found; ``fix`` says how to mend it. Only the command line catches them.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class TunesmithError(Exception):
    """An error with a one-line message and, where there is one, a way to mend it."""

    exit_status = 1

    def __init__(self, message: str, *, fix: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix

    def __str__(self) -> str:
        text = self.message if self.fix is None else f"{self.message.rstrip('.')}. {self.fix}"
        return " ".join(text.split())


class ShapeError(TunesmithError):
    """Tensors whose shapes don't fit together."""


class ExportHarm(TunesmithError):
    """An export that lost more than its tolerances allow: which stage, what, how much, and the layer where it can be found.

    ``table`` has what every stage scored, as text.
    """

    def __init__(self, message: str, *, fix: str | None = None, table: str = "") -> None:
        super().__init__(message, fix=fix)
        self.table = table


class UserError(TunesmithError):
    """Something the user asked for that can't be done as asked."""

    exit_status = 2


class UsageError(UserError):
    """A flag, an option, or a combination of them."""


class ConfigError(UserError):
    """A configuration file or a set of options with one or several problems."""

    def __init__(self, problems: Iterable[str], *, where: str | None = None, fix: str | None = None) -> None:
        self.problems = tuple(problems)
        prefix = f"{where}: " if where else ""
        super().__init__(prefix + "; ".join(self.problems), fix=fix)


class DataError(UserError):
    """A data file, row, column or template."""

    def __init__(self, message: str, *, file: str | None = None, row: int | None = None, fix: str | None = None) -> None:
        self.file, self.row = file, row
        place = (f"{file}: " if file else "") + (f"row {row}: " if row is not None else "")
        super().__init__(place + message, fix=fix)


class ModelError(UserError):
    """A model, tokenizer or adapter that can't be found, read or used."""


class OutputError(UserError):
    """A place that can't be written to."""


class DependencyError(UserError):
    """A package that this feature needs and that is not installed."""

    def __init__(self, package: str, extra: str, *, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package '{package}', which is not installed", fix=f"Install it: pip install 'tunesmith[{extra}]'"
        )


class TrainingError(UserError):
    """Training that can't go on."""


class ResumeError(UserError):
    """A checkpoint that can't be resumed with this configuration."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for the closest known name, or the empty string when none is close."""
    match = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"Did you mean '{match[0]}'?" if match else ""
