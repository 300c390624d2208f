"""Split names with slices, as `datasets` writes them: ``train[:4096]``, ``train[80%:]``, ``train[:10%]+train[90%:]``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunesmith.data.columns import join_files
from tunesmith.errors import DataError, UsageError, nearest

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from datasets import Dataset

_PART = re.compile(r"^\s*(?P<name>[^\[\]+]+?)\s*(?:\[\s*(?P<start>-?\d+%?)?\s*:\s*(?P<stop>-?\d+%?)?\s*\])?\s*$")


@dataclass(frozen=True)
class Slice:
    """A stretch of a split; ``start`` and ``stop`` are rows, or percent with a ``%`` behind, None for the split's ends."""

    name: str
    start: str | None = None
    stop: str | None = None

    def rows(self, num_rows: int) -> range:
        """Return the rows it stands for among ``num_rows``; a stop behind the last row means the last row."""
        return range(self._position(self.start, num_rows, 0), self._position(self.stop, num_rows, num_rows))

    @staticmethod
    def _position(bound: str | None, num_rows: int, default: int) -> int:
        if bound is None:
            return default
        position = round(num_rows * int(bound[:-1]) / 100) if bound.endswith("%") else int(bound)
        return min(max(position + num_rows if position < 0 else position, 0), num_rows)


def parse_split(text: str, *, option: str) -> tuple[Slice, ...]:
    """Read a split with or without slices.

    Args:
        text: e.g. ``train[4096:4224]``; several are joined by ``+``.
        option: the flag it was given with, for messages.

    Raises:
        UsageError: when it is none of that.
    """
    slices = []
    for part in text.split("+"):
        match = _PART.match(part)
        percents = [bound for bound in match.group("start", "stop") if bound and bound.endswith("%")] if match else []
        if match is None or any(abs(int(bound[:-1])) > 100 for bound in percents):
            fix = "Write a split and rows or percents, e.g. train[:4096] or train[80%:]"
            raise UsageError(f"{option} {text!r} is no split with a slice", fix=fix)
        slices.append(Slice(match["name"], match["start"], match["stop"]))
    return tuple(slices)


def take_slices(
    slices: tuple[Slice, ...], splits: Mapping[str, Dataset], *, text: str, origin: str
) -> tuple[Dataset, dict[str, npt.NDArray[np.int64]]]:
    """Return the rows that slices stand for, and which rows of which split they are.

    Raises:
        DataError: for a split that doesn't exist and for a slice without rows.
    """
    import numpy as np

    parts: list[Dataset] = []
    names: list[str] = []
    taken: dict[str, npt.NDArray[np.int64]] = {}
    for part in slices:
        if part.name not in splits:
            fix = nearest(part.name, splits) or None
            raise DataError(f"there is no split '{part.name}'; there is: {', '.join(splits)}", file=origin, fix=fix)
        rows = part.rows(len(splits[part.name]))
        if rows:
            parts.append(splits[part.name].select(rows, keep_in_memory=True))
            names.append(part.name)
        taken[part.name] = np.concatenate([taken.get(part.name, np.zeros(0, dtype=np.int64)), np.arange(rows.start, rows.stop)])
    if not parts:
        sizes = ", ".join(f"'{part.name}' has {len(splits[part.name]):,} rows" for part in slices)
        raise DataError(f"the slice {text!r} holds no row: {sizes}", file=origin, fix="Choose a slice within them")
    return join_files(parts, [f"{origin} ({name})" for name in names]), taken
