"""Rows of different lengths as tensors.

B rows, T tokens of the longest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

#: The column of rows that count more or less than others.
WEIGHT = "weight"


def pad(rows: Sequence[Sequence[int]], value: int) -> tuple[Tensor, Tensor]:
    """Return rows filled up at their end with ``value``, ``(B, T)``, and their lengths ``(B,)``."""
    lengths = torch.tensor([len(row) for row in rows])
    padded = torch.full((len(rows), int(lengths.max())), value, dtype=torch.long)
    for index, row in enumerate(rows):
        padded[index, : len(row)] = torch.as_tensor(row, dtype=torch.long)
    return padded, lengths


def take(batch: Mapping[str, Tensor], group: Sequence[int], padded: Mapping[str, str]) -> dict[str, Tensor]:
    """Return the rows ``group`` of every tensor of a batch.

    Args:
        batch: tensors whose first dimension is B.
        group: row numbers.
        padded: name of a ``(B, T)`` tensor -> name of the tensor with its lengths; it is cut to the longest row of the group.
    """
    found = {name: tensor[list(group)] for name, tensor in batch.items()}
    for name, lengths in padded.items():
        found[name] = found[name][:, : int(found[lengths].max())]
    return found


def row_weights(rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
    """Return the ``weight`` ``(B,)`` float32 of rows that have one."""
    return {WEIGHT: torch.tensor([row[WEIGHT] for row in rows], dtype=torch.float32)} if WEIGHT in rows[0] else {}


def mask_of(lengths: Tensor, width: int) -> Tensor:
    """Return ``(B, width)``, 1 at real tokens and 0 at padding."""
    return (torch.arange(width, device=lengths.device)[None, :] < lengths[:, None]).long()
