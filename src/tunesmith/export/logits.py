"""Logits of one model kept on disk, and those of another one compared with them row by row.

Legend: T tokens of a row, K positions of it that are compared, V vocabulary.

All logits of 200 rows of 60 tokens over a vocabulary of 50,000 are 2.4 GB. So they are never in memory together: the reference's are
written to a file that is bounded by `SPOOL_BYTES`, and read back one row at a time.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tunesmith.artifact import naming_full_disk
from tunesmith.export.tolerances import TIE

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    Logits = npt.NDArray[np.float32]

#: What the reference's logits may take on disk, whatever the rows and the vocabulary.
SPOOL_BYTES = 1 << 30
#: Logits of one row in memory, in floats: 256 MB. A row of more tokens loses its beginning.
MOST_LOGITS = 1 << 26
_FLOAT = 4


@dataclass(frozen=True)
class ScoredRow:
    """One row of token ids to compare models on.

    Attributes:
        ids: prompt and right answer.
        first: position of the first token of the answer, at least 1.
        positions: where logits are compared: logits at position p foresee token p + 1.
    """

    ids: tuple[int, ...]
    first: int
    positions: tuple[int, ...]

    @property
    def num_written(self) -> int:
        """How many of ``positions``, the last ones, foresee tokens of the answer."""
        return sum(position >= self.first - 1 for position in self.positions)


def plan_rows(rows: Sequence[tuple[Sequence[int], int]], *, vocabulary: int, context: int | None) -> list[ScoredRow]:
    """Decide where rows are compared, so that memory and disk stay bounded.

    Args:
        rows: token ids and where the answer begins.
        vocabulary: V.
        context: tokens that the models read at once.

    Returns: rows with an answer; long ones without their beginning. All positions of the answer come first, then as many of the prompt,
        spread over it, as the disk allows.
    """
    most = max(2, min(context or MOST_LOGITS, MOST_LOGITS // vocabulary))
    each = max(1, SPOOL_BYTES // (_FLOAT * vocabulary * max(1, len(rows))))
    planned = []
    for ids, first in rows:
        cut = max(0, len(ids) - most)
        kept, start = tuple(ids[cut:]), max(1, first - cut)
        if start < len(kept):
            written, before = range(start - 1, len(kept) - 1), range(start - 1)
            room = max(0, each - len(written))
            chosen = [before[index * len(before) // room] for index in range(room)] if len(before) > room else list(before)
            planned.append(ScoredRow(kept, start, (*chosen, *written[:each])))
    return planned


class LogitSpool:
    """The logits of the reference at the compared positions, in a temporary file.

    Args:
        folder: where the file is made; by default where temporary files are.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._file = tempfile.TemporaryFile(mode="w+b", dir=folder)  # noqa: SIM115 - open as long as the spool lives
        self._shapes: list[tuple[int, int]] = []
        self._starts: list[int] = []
        self._end = 0

    def append(self, logits: Logits) -> None:
        """Keep the logits ``(K, V)`` of the next row.

        Raises:
            OutputError: when the disk is full.
        """
        from pathlib import Path

        import numpy as np

        data = np.ascontiguousarray(logits, dtype=np.float32)
        with naming_full_disk(Path(tempfile.gettempdir())):
            self._file.seek(self._end)
            self._file.write(data.data)
        self._starts.append(self._end)
        self._shapes.append((data.shape[0], data.shape[1]))
        self._end += data.nbytes

    def __len__(self) -> int:
        return len(self._shapes)

    def __getitem__(self, row: int) -> Logits:
        import numpy as np

        num_positions, vocabulary = self._shapes[row]
        self._file.seek(self._starts[row])
        data = self._file.read(num_positions * vocabulary * _FLOAT)
        return np.frombuffer(data, dtype=np.float32).reshape(num_positions, vocabulary)

    def __iter__(self) -> Iterator[Logits]:
        return (self[row] for row in range(len(self)))

    def close(self) -> None:
        """Give the disk back."""
        self._file.close()


@dataclass
class Distance:
    """How far the logits of one model are from the reference's, summed up row by row.

    Attributes:
        largest: largest difference of any logit.
        finite: whether all logits were numbers.
        widths: vocabulary of reference and stage, where they differ.
    """

    largest: float = 0.0
    finite: bool = True
    widths: tuple[int, int] | None = None
    _sum: float = field(default=0.0, repr=False)
    _count: int = field(default=0, repr=False)
    _kl: float = field(default=0.0, repr=False)
    _positions: list[int] = field(default_factory=lambda: [0, 0], repr=False)
    _same: list[int] = field(default_factory=lambda: [0, 0], repr=False)

    @property
    def mean(self) -> float:
        """Mean absolute difference of a logit."""
        return self._sum / max(self._count, 1)

    @property
    def kl(self) -> float:
        """Mean Kullback-Leibler divergence of the stage from the reference, in nats a position."""
        return self._kl / max(sum(self._positions), 1)

    @property
    def top1_everywhere(self) -> float:
        """Share of all compared positions with the same likeliest token."""
        return sum(self._same) / max(sum(self._positions), 1)

    @property
    def top1_written(self) -> float:
        """Share of the positions of answers with the same likeliest token."""
        return self._same[1] / max(self._positions[1], 1)

    @property
    def num_written(self) -> int:
        """Positions of answers compared."""
        return self._positions[1]

    @property
    def num_positions(self) -> int:
        """Positions compared."""
        return sum(self._positions)

    def add(self, reference: Logits, stage: Logits, num_written: int) -> None:
        """Compare the logits ``(K, V)`` of one row.

        Args:
            reference, stage: at the same positions. A vocabulary padded at its end is compared as far as both reach.
            num_written: how many positions, the last ones, are of the answer.
        """
        import numpy as np

        if reference.shape[1] != stage.shape[1]:
            self.widths = (reference.shape[1], stage.shape[1])
        width = min(reference.shape[1], stage.shape[1])
        first, second = reference[:, :width], stage[:, :width]
        if not np.isfinite(second).all():
            self.finite = False
            second = np.nan_to_num(second, nan=0.0, posinf=0.0, neginf=0.0)
        difference = np.abs(first - second)
        self.largest = max(self.largest, float(difference.max(initial=0.0)))
        self._sum += float(difference.sum(dtype=np.float64))
        self._count += difference.size
        self._kl += float(_divergence(first, second).sum())
        same = _same_choice(first, second)
        before = len(same) - num_written
        for kind, part in enumerate((same[:before], same[before:])):
            self._positions[kind] += len(part)
            self._same[kind] += int(part.sum())


def _same_choice(reference: Logits, stage: Logits) -> npt.NDArray[np.bool_]:
    """Return ``(K,)``: whether both choose the same token, ties of the reference counted as the same."""
    import numpy as np

    rows = np.arange(len(reference))
    chosen, other = reference.argmax(axis=1), stage.argmax(axis=1)
    return np.asarray((chosen == other) | (reference[rows, chosen] - reference[rows, other] <= TIE))


def _divergence(reference: Logits, stage: Logits) -> npt.NDArray[np.float64]:
    """Return ``(K,)``: KL(reference || stage) in nats."""
    import numpy as np

    first, second = log_softmax(reference), log_softmax(stage)
    divergence: npt.NDArray[np.float64] = (np.exp(first) * (first - second)).sum(axis=1)
    return np.maximum(divergence, 0.0)


def log_softmax(logits: Logits) -> npt.NDArray[np.float64]:
    """Return the logarithms of the probabilities ``(K, V)`` in float64."""
    import numpy as np

    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    normalised: npt.NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return normalised


def answer_log_prob(logits: Logits, row: ScoredRow) -> tuple[float, int]:
    """Return the log-probability of the compared answer tokens of a row, and how many there are.

    Args:
        logits: ``(K, V)`` at ``row.positions``.
    """
    import numpy as np

    count = row.num_written
    tokens = [row.ids[position + 1] for position in row.positions[len(row.positions) - count :]]
    written = logits[len(logits) - count :]
    total = float(log_softmax(written)[np.arange(count), tokens].sum()) if count else 0.0
    return (total if math.isfinite(total) else -math.inf), count
