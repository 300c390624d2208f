"""Which rows make a step: batches of like length, the same in every run with the same seed.

B rows a step, T tokens of the longest row among them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.utils.data import Sampler

from tunesmith.data.tokenize import IGNORE_INDEX
from tunesmith.tasks.batches import row_weights

# Rows are sorted by length within windows of this many batches, so that the order stays random enough to learn from
# while a batch holds hardly any padding.
WINDOW_BATCHES = 16


class LengthGroupedBatches(Sampler[list[int]]):
    """Batches of row numbers, shuffled anew each epoch; with ``group_by_length`` the rows of a batch are of like length.

    The order depends on ``seed`` and the epoch alone, never on the global random state: a resumed run sees the batches that
    the uninterrupted one would have seen.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, *, seed: int, group_by_length: bool, drop_last: bool = False) -> None:
        self.lengths = torch.as_tensor(lengths)
        self.batch_size = batch_size
        self.seed = seed
        self.group_by_length = group_by_length
        self.drop_last = drop_last
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of this epoch; the trainer calls it at the start of each."""
        self.epoch = epoch

    def __len__(self) -> int:
        full, rest = divmod(len(self.lengths), self.batch_size)
        return full if self.drop_last or not rest else full + 1

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(len(self.lengths), generator=generator)
        if not self.group_by_length:
            yield from self._cut(order)
            return
        window = self.batch_size * WINDOW_BATCHES
        batches = [
            batch
            for start in range(0, len(order), window)
            for batch in self._cut(order[start : start + window][self.lengths[order[start : start + window]].argsort(stable=True)])
        ]
        for index in torch.randperm(len(batches), generator=generator).tolist():
            yield batches[index]

    def _cut(self, order: torch.Tensor) -> list[list[int]]:
        rows = order.tolist()
        batches = [rows[start : start + self.batch_size] for start in range(0, len(rows), self.batch_size)]
        return batches[:-1] if self.drop_last and len(batches[-1]) < self.batch_size else batches


def collate(rows: Sequence[Mapping[str, Any]], pad_token_id: int) -> dict[str, torch.Tensor]:
    """Right-pad rows to the longest of them.

    A causal model needs no mask for that: a real token only looks back, where there is no padding, and positions count from the left all
    the same; what is computed at padded positions is read by nobody, because their labels are ignored.

    Args:
        rows: each with ``input_ids`` and ``labels`` (−100 where nothing is learnt; not shifted), where rows are weighed ``weight`` too.
        pad_token_id: fills ``input_ids``; no loss is ever taken there.

    Returns: ``input_ids`` and ``labels`` ``(B, T)``, ``lengths`` ``(B,)``, the number of real tokens of each row, and ``weight`` ``(B,)``.
    """
    lengths = torch.tensor([len(row["input_ids"]) for row in rows])
    longest = int(lengths.max())
    input_ids = torch.full((len(rows), longest), pad_token_id, dtype=torch.long)
    labels = torch.full((len(rows), longest), IGNORE_INDEX, dtype=torch.long)
    for index, row in enumerate(rows):
        input_ids[index, : lengths[index]] = torch.as_tensor(row["input_ids"], dtype=torch.long)
        labels[index, : lengths[index]] = torch.as_tensor(row["labels"], dtype=torch.long)
    return {"input_ids": input_ids, "labels": labels, "lengths": lengths, **row_weights(rows)}
