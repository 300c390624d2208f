"""Rows that are almost the same, by MinHash sketches and locality-sensitive hashing.

A. Broder, "On the resemblance and containment of documents" (1997); bands of a sketch as in Leskovec, Rajaraman, Ullman, "Mining of
Massive Datasets", section 3.4. Sketches are datasketch's; its index keeps Python sets, several kilobytes a row, so bands are matched by
sorting instead: 240 bytes a row, and twelve sorts for a million rows.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from tunesmith.data.doctor.checks import Check, Context, Row
from tunesmith.data.doctor.findings import Finding

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

#: 12 bands of 5: two texts that share 85% of their pieces meet in a band with probability 0.999, two that share 50% with 0.32.
BANDS, BAND_VALUES = 12, 5
#: Share of pieces (Jaccard similarity) from which two rows count as almost the same.
ALIKE = 0.85
#: Letters of a piece; shorter texts are compared as wholes.
PIECE = 5
BATCH_ROWS = 512


class NearDuplicates(Check):
    """Rows whose questions are almost the same: within the training rows a note, across to held-out rows a warning."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._sketches: list[npt.NDArray[np.uint32]] = []
        self._waiting: list[set[bytes]] = []
        self._rows, self._exact, self._train = array("q"), array("Q"), array("b")
        self._coverage = 1.0

    def see(self, row: Row) -> Iterable[Finding]:
        """Take a row's sketch."""
        words = row.words or row.asked
        if not words:
            return ()
        self._rows.append(row.index)
        self._exact.append(row.asked_hash)
        self._train.append(row.split == "train")
        self._waiting.append(pieces(words))
        if len(self._waiting) >= BATCH_ROWS:
            self._sketch()
        return ()

    def _sketch(self) -> None:
        import numpy as np
        import xxhash
        from datasketch import MinHash

        made = MinHash.generator(self._waiting, num_perm=BANDS * BAND_VALUES, hashfunc=xxhash.xxh32_intdigest)
        self._sketches.append(np.stack([sketch.hashvalues for sketch in made]).astype(np.uint32))
        self._waiting = []

    def finish(self) -> Iterable[Finding]:
        """Return the rows that are almost another one."""
        import numpy as np

        if self._waiting:
            self._sketch()
        if not self._rows:
            return
        exact = np.frombuffer(self._exact, dtype=np.uint64)
        train = np.frombuffer(self._train, dtype=np.int8).astype(np.bool_)
        partner, alike = nearest_earlier(self._joined(), exact, np.argsort(~train, kind="stable"))
        covered = np.unique(exact).size - np.unique(exact[partner >= 0]).size
        self._coverage = covered / len(exact)
        for at in np.flatnonzero(partner >= 0):
            yield self._finding(int(at), int(partner[at]), float(alike[at]), bool(train[at]), bool(train[partner[at]]))

    def _joined(self) -> npt.NDArray[np.uint32]:
        """Return all sketches in one array, and let go of the parts."""
        import numpy as np

        parts, self._sketches = self._sketches, []
        return np.concatenate(parts)

    def _finding(self, at: int, other: int, alike: float, in_train: bool, other_in_train: bool) -> Finding:
        places = self.context.places
        index, first = self._rows[at], self._rows[other]
        same = "the same words as" if alike >= 1 else f"{alike:.0%} like"
        if other_in_train and not in_train:
            message = f"{same} the training row {places.name(first)}"
            fix = "Take it out of one of them, or split anew: tunesmith data split"
            return places.finding(index, "near_leak", "warning", message, fix)
        return places.finding(index, "near_duplicate", "note", f"{same} {places.name(first, beside=index)}")

    def figures(self) -> Mapping[str, Any]:
        """Return how many kinds of questions there are for each row: 1 when no two rows are alike."""
        return {"cluster_coverage": round(self._coverage, 4)}


def pieces(text: str) -> set[bytes]:
    """Return the stretches of ``PIECE`` bytes in a text."""
    content = text.encode("utf-8", "surrogatepass")
    return {content[at : at + PIECE] for at in range(max(1, len(content) - PIECE + 1))}


def nearest_earlier(
    sketches: npt.NDArray[np.uint32], exact: npt.NDArray[np.uint64], order: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Find for each row one that comes before it and is almost the same.

    Rows with the same band are compared with the first of them and with their neighbour, not all with all: what is alike meets in
    several bands, and a band that thousands share would take millions of comparisons.

    Args:
        sketches: ``(N, BANDS * BAND_VALUES)``.
        exact: ``(N,)`` hashes; rows with equal ones are copies, which is another finding.
        order: ``(N,)`` the rows from the first to the last.

    Returns: ``(N,)`` the partner of each row, -1 where there is none, and how alike they are (estimated Jaccard similarity).
    """
    import numpy as np

    num_rows = len(sketches)
    partner, best = np.full(num_rows, -1, dtype=np.int64), np.zeros(num_rows, dtype=np.float32)
    in_order = bool((order[1:] > order[:-1]).all())
    ordered = sketches if in_order else sketches[order]
    weights = np.random.default_rng(0).integers(1, 2**63, size=BAND_VALUES, dtype=np.uint64) | np.uint64(1)
    for band in range(BANDS):
        values = ordered[:, band * BAND_VALUES : (band + 1) * BAND_VALUES].astype(np.uint64)
        key = (values * weights).sum(axis=1, dtype=np.uint64)
        by_key = np.argsort(key, kind="stable")  # equal keys stay in the rows' order
        is_first = np.concatenate([[True], key[by_key][1:] != key[by_key][:-1]])
        starts = np.maximum.accumulate(np.where(is_first, np.arange(num_rows), 0))
        later = np.flatnonzero(~is_first)
        for other in (by_key[starts[later]], by_key[later - 1]):
            _keep_better(ordered, exact[order], by_key[later], other, order, partner, best)
    return partner, best


def _keep_better(
    ordered: npt.NDArray[np.uint32],
    exact: npt.NDArray[np.uint64],
    later: npt.NDArray[np.int64],
    earlier: npt.NDArray[np.int64],
    order: npt.NDArray[np.int64],
    partner: npt.NDArray[np.int64],
    best: npt.NDArray[np.float32],
) -> None:
    """Take over pairs that are alike, where a row has no partner yet or a worse one; in blocks, so that memory stays small."""
    import numpy as np

    for start in range(0, len(later), 65_536):
        left, right = later[start : start + 65_536], earlier[start : start + 65_536]
        alike = (ordered[left] == ordered[right]).mean(axis=1, dtype=np.float32)
        rows = order[left]
        better = (alike >= ALIKE) & (exact[left] != exact[right]) & (alike > best[rows])
        partner[rows[better]] = order[right[better]]
        best[rows[better]] = alike[better]
