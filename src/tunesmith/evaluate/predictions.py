"""Predictions on disk while a test set streams by, so that memory doesn't grow with its length; and the file that is left of them."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO, overload

from tunesmith.artifact import naming_full_disk


class Spool(Sequence[Any]):
    """A list of plain values that lives in a temporary file; eight bytes a value stay in memory.

    Args:
        read: makes a value of what JSON gives back; by default as it is.
    """

    def __init__(self, read: Callable[[Any], Any] | None = None) -> None:
        self._file = tempfile.TemporaryFile(mode="w+b")  # noqa: SIM115 - open as long as the list lives
        self._starts = array("Q")
        self._end = 0
        self._read = read

    def append(self, value: Any) -> None:
        """Add a value."""
        line = json.dumps(value, ensure_ascii=False).encode()
        self._starts.append(self._end)
        self._file.seek(self._end)
        self._file.write(line)
        self._end += len(line)

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, place: int) -> Any: ...

    @overload
    def __getitem__(self, place: slice) -> list[Any]: ...

    def __getitem__(self, place: int | slice) -> Any:
        if isinstance(place, slice):
            return [self[index] for index in range(*place.indices(len(self)))]
        number = range(len(self))[place]
        start = self._starts[number]
        end = self._starts[number + 1] if number + 1 < len(self) else self._end
        self._file.seek(start)
        value = json.loads(self._file.read(end - start))
        return self._read(value) if self._read else value

    def __iter__(self) -> Iterator[Any]:
        return (self[place] for place in range(len(self)))


@contextlib.contextmanager
def written_whole(final: Path) -> Iterator[TextIO]:
    """Open a file that appears under its name when whole.

    Raises:
        OutputError: when the disk is full.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.with_name(f".{final.name}.{os.getpid()}")
    try:
        with naming_full_disk(final):
            with temporary.open("w", encoding="utf-8") as file:
                yield file
            os.replace(temporary, final)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
