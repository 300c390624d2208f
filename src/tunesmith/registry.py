"""Names that stand for code: ``name -> "module:attribute"``, imported when first asked for.

Another package adds to a registry through an entry point of the group ``tunesmith.<kinds>``; nothing is imported to list the names.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Mapping

from tunesmith.errors import UsageError, nearest


class Registry:
    """The known names of one kind of thing (methods, tasks, metrics …)."""

    def __init__(self, kind: str, entries: Mapping[str, str]) -> None:
        self.kind = kind
        self._entries = dict(entries)
        self._scanned = False

    def names(self) -> list[str]:
        """Return every known name, sorted; entry points of other packages included."""
        if not self._scanned:
            for point in importlib.metadata.entry_points(group=f"tunesmith.{self.kind}{'es' if self.kind.endswith('s') else 's'}"):
                self._entries.setdefault(point.name, point.value)
            self._scanned = True
        return sorted(self._entries)

    def load(self, name: str) -> object:
        """Import and return what ``name`` stands for.

        Raises:
            UsageError: when the name is unknown; the nearest known one is named.
        """
        if name not in self._entries and name not in self.names():
            raise UsageError(f"unknown {self.kind} '{name}'; known: {', '.join(self.names())}", fix=nearest(name, self.names()) or None)
        module, _, attribute = self._entries[name].partition(":")
        return getattr(importlib.import_module(module), attribute)
