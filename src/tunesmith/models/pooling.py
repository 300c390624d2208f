"""One embedding for a text: from the hidden states of its tokens, the same at training and wherever the model runs.

B rows, T tokens, D hidden size.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Pooling = Literal["mean", "last"]


def pool(hidden: Tensor, lengths: Tensor, pooling: str) -> Tensor:
    """Return embeddings of length 1, ``(B, D)`` float32.

    Args:
        hidden: ``(B, T, D)`` last hidden states of right-padded rows.
        lengths: ``(B,)`` tokens of each row, at least 1.
        pooling: ``mean`` of the row's tokens, or its ``last`` one.
    """
    hidden = hidden.float()
    if pooling == "last":
        pooled = hidden[torch.arange(len(hidden), device=hidden.device), lengths - 1]
    else:
        real = torch.arange(hidden.shape[1], device=hidden.device)[None, :] < lengths[:, None]  # (B, T)
        pooled = (hidden * real[..., None]).sum(dim=1) / lengths[:, None]
    return torch.nn.functional.normalize(pooled, dim=-1)
