"""How long a row may be, and what happens to those that are longer."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tunesmith.data.tokenize import IGNORE_INDEX
from tunesmith.errors import DataError, UsageError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from datasets import Dataset

    Integers = npt.NDArray[np.int32]
    Positions = npt.NDArray[np.int64]

log = logging.getLogger(__name__)

PERCENTILE = 99.5
MULTIPLE = 64
#: Share of the supervised tokens that may be lost without a word from the user.
MOST_LOST = 0.05


def choose_max_seq_len(lengths: Integers, asked: int | None, model_max_len: int | None) -> int:
    """Return the most tokens of a row.

    Args:
        lengths: of all rows with something to learn from.
        asked: what the user wants; by default the 99.5th percentile, rounded up to a multiple of 64.
        model_max_len: what the model takes.

    Raises:
        UsageError: when fewer than two tokens are asked for: nothing could be predicted.
    """
    import numpy as np

    if asked is not None and asked < 2:
        raise UsageError(f"--max_seq_len {asked} leaves nothing to predict", fix="Give at least 2; without it, it follows the data")
    if asked is not None and model_max_len is not None and asked > model_max_len:
        log.warning("--max_seq_len %s is more than the model takes; %s is used.", asked, model_max_len)
    percentile = int(np.ceil(np.percentile(lengths, PERCENTILE, method="higher")))
    chosen = asked if asked is not None else -(-percentile // MULTIPLE) * MULTIPLE
    return chosen if model_max_len is None else min(chosen, model_max_len)


@dataclass(frozen=True)
class Cut:
    """What cutting did.

    Attributes:
        dataset: the rows that are left, in their order.
        shortened, dropped: positions among the tokenized rows that lost their end, and those whose answer begins behind the limit.
        lengths: tokens of all rows before.
        num_tokens, num_supervised: over the rows that are left.
        num_cut_tokens: lost at the ends of shortened rows.
        num_supervised_before: supervised tokens before cutting.
    """

    dataset: Dataset
    max_seq_len: int
    shortened: Positions
    dropped: Positions
    lengths: Integers
    num_tokens: int
    num_supervised: int
    num_cut_tokens: int
    num_supervised_before: int

    @property
    def lost(self) -> float:
        """The share of supervised tokens that went."""
        return 1 - self.num_supervised / self.num_supervised_before

    def in_words(self) -> str:
        """Say what is cut and dropped in a sentence without its stop."""
        parts = []
        if len(self.shortened):
            parts.append(f"{len(self.shortened):,} cut at the end ({self.num_cut_tokens:,} tokens)")
        if len(self.dropped):
            parts.append(f"{len(self.dropped):,} dropped because the answer begins later")
        longer = len(self.shortened) + len(self.dropped)
        rows = "row is" if longer == 1 else "rows are"
        return f"{longer:,} {rows} longer than {self.max_seq_len} tokens: {', '.join(parts)}; {self.lost:.1%} of what is learnt is lost"

    def fates(self, rows: Integers) -> Iterator[tuple[int, int, str]]:
        """Yield (row, tokens, what) for each row that is cut or dropped; ``rows`` maps positions to rows."""
        for position in self.shortened:
            tokens = int(self.lengths[position])
            yield int(rows[position]), tokens, f"cut: {tokens - self.max_seq_len} tokens at its end"
        for position in self.dropped:
            yield int(rows[position]), int(self.lengths[position]), "dropped: the answer begins behind max_seq_len"

    def check(self, *, allow_truncation: bool) -> None:
        """Stop when too much is lost.

        Raises:
            DataError: above 5% of the supervised tokens, unless that is allowed; always when nothing is left.
        """
        if self.num_supervised and (allow_truncation or self.lost <= MOST_LOST):
            return
        needed = int(self.lengths.max())
        fix = f"Raise --max_seq_len (the longest row has {needed:,} tokens), shorten the rows, or allow it: --allow_truncation"
        if not self.num_supervised:
            fix = f"Raise --max_seq_len (the longest row has {needed:,} tokens)"
        raise DataError(self.in_words(), fix=fix)


def cut_rows(tokenized: Dataset, lengths: Integers, supervised: Integers, max_seq_len: int) -> Cut:
    """Shorten rows to ``max_seq_len`` tokens and leave out those with nothing left to learn from.

    Args:
        tokenized: as :func:`~tunesmith.data.prepare.tokenize` returns it; only its long rows are rewritten, in memory.
        lengths, supervised: ``(rows,)`` tokens and supervised tokens of each.
    """
    import numpy as np

    long = np.flatnonzero((lengths > max_seq_len) & (supervised > 0))
    short = np.flatnonzero((lengths <= max_seq_len) & (supervised > 0))
    cut = _shorten(tokenized, long, max_seq_len) if len(long) else None
    left = np.asarray(cut["num_supervised"][:], dtype=np.int64) if cut is not None else np.zeros(0, dtype=np.int64)
    kept = left > 0
    num_short = int(supervised[short].sum(dtype=np.int64))
    return Cut(
        dataset=_in_order(tokenized, cut, short, long, kept),
        max_seq_len=max_seq_len,
        shortened=long[kept],
        dropped=long[~kept],
        lengths=lengths,
        num_tokens=int(lengths[short].sum(dtype=np.int64)) + max_seq_len * int(kept.sum()),
        num_supervised=num_short + int(left.sum()),
        num_cut_tokens=int((lengths[long[kept]] - max_seq_len).sum(dtype=np.int64)),
        num_supervised_before=int(supervised.sum(dtype=np.int64)),
    )


def _shorten(tokenized: Dataset, positions: Positions, max_seq_len: int) -> Dataset:
    def shorten(batch: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
        labels = [row[:max_seq_len] for row in batch["labels"]]
        return {
            "input_ids": [row[:max_seq_len] for row in batch["input_ids"]],
            "labels": labels,
            "length": [len(row) for row in labels],
            "num_supervised": [len(row) - row.count(IGNORE_INDEX) for row in labels],
        }

    features = tokenized.features
    return tokenized.select(positions, keep_in_memory=True).map(
        shorten, batched=True, features=features, keep_in_memory=True, load_from_cache_file=False, new_fingerprint=f"cut-{max_seq_len}"
    )


def _in_order(tokenized: Dataset, cut: Dataset | None, short: Positions, long: Positions, kept: npt.NDArray[np.bool_]) -> Dataset:
    """Return short and shortened rows in the order of the data."""
    import numpy as np
    from datasets import concatenate_datasets

    if cut is None:
        return tokenized if len(short) == len(tokenized) else tokenized.select(short, keep_in_memory=True)
    places = np.arange(len(tokenized))
    places[long] = len(tokenized) + np.arange(len(long))
    wanted = np.sort(np.concatenate([short, long[kept]]))
    return concatenate_datasets([tokenized, cut]).select(places[wanted], keep_in_memory=True)
