"""Which attention kernel is fast for a row length, device and dtype."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

#: Rows up to this many tokens are faster with the math kernel on a CPU: the backward of the CPU flash kernel splits its work for long rows.
MATH_KERNEL_MAX_TOKENS = 128


@contextmanager
def attention_kernel(length: int, device: torch.device | str) -> Iterator[None]:
    """Prefer the attention kernel that is fastest for rows of ``length`` tokens on ``device``; anything but a CPU is left alone."""
    if torch.device(device).type != "cpu" or length > MATH_KERNEL_MAX_TOKENS:
        yield
        return
    with sdpa_kernel(SDPBackend.MATH):
        yield
