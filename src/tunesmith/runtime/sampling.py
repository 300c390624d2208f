"""Choosing the next token: the likeliest one, or one drawn by a row's own random numbers."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tunesmith.errors import ModelError, UsageError

# Legend: B rows of a batch, V vocabulary.


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen; temperature 0 is greedy.

    Raises:
        UsageError: for values outside their range.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise UsageError(f"temperature is {self.temperature}, but it must be 0 (the likeliest token) or above")
        if not 0 < self.top_p <= 1:
            raise UsageError(f"top_p is {self.top_p}, but it is a probability above 0 and at most 1")

    def draws(self, prompts: Sequence[Sequence[int]]) -> list[random.Random]:
        """Return a source of random numbers for each prompt.

        It depends on the seed, the prompt and how often the same prompt came before, not on the rest of the batch: a prompt is answered
        alike alone and among others. (Up to rounding: logits in half precision differ in the last bit between batch sizes, which rarely,
        where two tokens are about as likely, leads to another token.)
        """
        seed = random.SystemRandom().getrandbits(64) if self.seed is None else self.seed
        seen: Counter[tuple[int, ...]] = Counter()
        sources = []
        for prompt in map(tuple, prompts):
            sources.append(random.Random(f"{seed}/{seen[prompt]}/{prompt}"))
            seen[prompt] += 1
        return sources

    @torch.inference_mode()
    def choose(self, logits: Tensor, draws: Sequence[random.Random]) -> list[int]:
        """Return the next token of every row.

        Args:
            logits: ``(B, V)``.
            draws: a source of random numbers for each row.

        Raises:
            ModelError: when logits are not numbers.
        """
        logits = logits.float()
        highest, tokens = logits.max(dim=-1)
        check_numbers(highest)
        if self.temperature == 0:
            return [int(token) for token in tokens.tolist()]
        # Dividing after the highest is subtracted keeps tiny temperatures from overflowing.
        probabilities = ((logits - highest[:, None]) / self.temperature).softmax(dim=-1).double()
        return self._draw(probabilities, draws)

    def _draw(self, probabilities: Tensor, draws: Sequence[random.Random]) -> list[int]:
        """Draw by the inverse of the cumulative distribution: one uniform number a row."""
        order = None
        if self.top_p < 1:
            probabilities, order = probabilities.sort(dim=-1, descending=True, stable=True)
            before = probabilities.cumsum(dim=-1) - probabilities
            probabilities = probabilities.masked_fill(before >= self.top_p, 0.0)
        cumulative = probabilities.cumsum(dim=-1)  # (B, V)
        uniform = torch.tensor([[draw.random()] for draw in draws], dtype=torch.float64, device=cumulative.device)
        places = torch.searchsorted(cumulative, uniform * cumulative[:, -1:], right=True)
        tokens = places if order is None else order.gather(-1, places)
        return [int(token) for token in tokens[:, 0].tolist()]


def check_numbers(values: Tensor) -> None:
    """Refuse what a model computes when it overflows.

    Args:
        values: the greatest logits, or what is made of all of them.

    Raises:
        ModelError: when one is not a finite number.
    """
    if not values.isfinite().all():
        raise ModelError("the model computes values that are not numbers", fix="Load it with --torch_dtype float32")
