"""Rows that are there twice, within the training rows and across to those that are to measure."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from tunesmith.data.doctor.checks import Check, Context, Row
from tunesmith.data.doctor.findings import Finding

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class Hashes:
    """A 64-bit hash of some rows: 16 bytes a row."""

    def __init__(self) -> None:
        self._hash, self._index = array("Q"), array("q")

    def add(self, value: int, index: int) -> None:
        """Take note of a row's hash."""
        self._hash.append(value)
        self._index.append(index)

    def arrays(self) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
        """Return hashes and indexes of the rows, in their order."""
        import numpy as np

        return np.frombuffer(self._hash, dtype=np.uint64), np.frombuffer(self._index, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._hash)


def copies(hashes: Hashes) -> Iterator[tuple[int, int]]:
    """Yield (copy, first) indexes of rows with the hash of an earlier row, in the rows' order."""
    import numpy as np

    if not len(hashes):
        return
    values, rows = hashes.arrays()
    _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    firsts = first[inverse]
    for at in np.flatnonzero(firsts != np.arange(len(values))):
        yield int(rows[at]), int(rows[firsts[at]])


class Duplicates(Check):
    """Rows equal to an earlier row of the same split in prompt and answer."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._hashes: dict[str, Hashes] = {}
        self.num_copies = 0

    def see(self, row: Row) -> Iterable[Finding]:
        """Take note of a row."""
        if row.asked:
            self._hashes.setdefault(row.split, Hashes()).add(row.row_hash, row.index)
        return ()

    def finish(self) -> Iterable[Finding]:
        """Return the copies."""
        for hashes in self._hashes.values():
            for copy, first in copies(hashes):
                self.num_copies += 1
                message = f"the same as {self.context.places.name(first, beside=copy)}"
                yield self.context.places.finding(copy, "duplicate_row", "warning", message, "Keep one: tunesmith data clean")

    def figures(self) -> Mapping[str, Any]:
        """Return how many copies there are."""
        return {"duplicate_rows": self.num_copies}


class Leakage(Check):
    """Rows of the validation and test files that ask what a training row asks: their figures would flatter."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._train, self._held = Hashes(), Hashes()
        self.num_leaked = 0

    def see(self, row: Row) -> Iterable[Finding]:
        """Take note of a row."""
        if row.asked:
            (self._train if row.split == "train" else self._held).add(row.asked_hash, row.index)
        return ()

    def finish(self) -> Iterable[Finding]:
        """Return the held-out rows that training sees."""
        import numpy as np

        if not len(self._held) or not len(self._train):
            return
        trained, trained_rows = self._train.arrays()
        held, held_rows = self._held.arrays()
        order = np.argsort(trained, kind="stable")
        at = np.minimum(np.searchsorted(trained[order], held), len(order) - 1)
        for place in np.flatnonzero(trained[order][at] == held):
            self.num_leaked += 1
            index, other = int(held_rows[place]), int(trained_rows[order][at[place]])
            message = f"asks the same as the training row {self.context.places.name(other)}"
            fix = "Take it out of one of them, or split anew: tunesmith data split"
            yield self.context.places.finding(index, "leaked_row", "error", message, fix)

    def figures(self) -> Mapping[str, Any]:
        """Return how many rows leak."""
        return {"leaked_rows": self.num_leaked} if len(self._held) else {}
