"""What an engine other than PyTorch must offer so that `EngineRuntime` can make a runtime of it: read tokens, give logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np

# Legend: B rows, N positions that are asked for, V vocabulary.


class Batch(Protocol):
    """Several rows that grow by a token at a time."""

    logits: np.ndarray
    """``(B, V)`` float32: of the token behind the end of each row."""

    def advance(self, tokens: Sequence[int]) -> None:
        """Append a token to each row, and compute ``logits`` anew."""


class Engine(Protocol):
    """A model inside a library that keeps keys and values itself."""

    @property
    def context_length(self) -> int | None:
        """The most tokens of a row."""

    @property
    def stop_ids(self) -> frozenset[int]:
        """What ends an answer by the files that the engine reads."""

    @property
    def most_rows(self) -> int:
        """Rows that it computes at once; 1 where it knows no batches."""

    @property
    def size_bytes(self) -> int:
        """Of the model's files."""

    def encode(self, text: str) -> list[int]:
        """Return a prompt's text as token ids, by the engine's own tokenizer, special tokens recognized."""

    def read(self, tokens: Sequence[int], *, num_logits: int = 1, room: int = 0) -> np.ndarray:
        """Return the logits ``(N, V)`` behind the last N tokens of a row, in float32.

        What the row has in common with the one that was read before is not computed again.

        Args:
            tokens: the whole row, at least one.
            num_logits: N.
            room: how many tokens may follow soon; memory for them is taken at once.
        """

    def open(self, rows: Sequence[Sequence[int]], *, room: int) -> Batch:
        """Return a batch of several rows, of any length, read to their ends.

        Args:
            rows: at most ``most_rows``, at least one token each.
            room: the most tokens that are going to be appended to each.
        """


class SingleRow:
    """A `Batch` of one row, which leaves the engine able to go on from any beginning of it."""

    def __init__(self, engine: Engine, row: Sequence[int], *, room: int) -> None:
        self._engine, self._row, self._room = engine, list(row), room
        self.logits = engine.read(self._row, room=room)

    def advance(self, tokens: Sequence[int]) -> None:
        """Append a token."""
        self._row += tokens
        self._room = max(0, self._room - 1)
        self.logits = self._engine.read(self._row, room=self._room)


def common_length(held: list[int], row: list[int]) -> int:
    """Return how many tokens two rows begin with in common; quick where one goes on from the other."""
    if row[: len(held)] == held:
        return len(held)
    return next((place for place, (one, other) in enumerate(zip(held, row, strict=False)) if one != other), min(len(held), len(row)))
