"""One pass over validation rows without gradients: sums for the loss, and what each row came to where a task keeps that."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tunesmith.data.columns import number_column
from tunesmith.tasks.protocol import Task
from tunesmith.train.fast.attention import attention_kernel
from tunesmith.train.fast.microbatch import micro_batches


@dataclass(frozen=True)
class Measured:
    """Sums over all rows; ``seen`` is what the task keeps of each row."""

    loss: float
    num_correct: int
    count: int
    seen: list[tuple[Any, Any]]


@torch.no_grad()
def measure(
    model: nn.Module,
    task: Task,
    dataset: Any,
    *,
    max_tokens: int,
    pad_token_id: int,
    device: torch.device,
    autocast: torch.dtype | None = None,
) -> Measured:
    """Compute the loss of all rows, in batches of like length of at most ``max_tokens`` tokens; the model should be in evaluation mode."""
    loss_sum, num_correct, count = 0.0, 0, 0
    seen: list[tuple[Any, Any]] = []
    for group in micro_batches(number_column(dataset, "length").tolist(), max_tokens=max_tokens // task.texts_per_row):
        batch = task.collate([dataset[index] for index in group], pad_token_id)
        with computing(device, autocast, batch["input_ids"].shape[1]):
            result = task.loss(model, {name: tensor.to(device) for name, tensor in batch.items()})
        loss_sum += float(result.loss_sum)
        num_correct += int(result.num_correct or 0)
        count += result.count
        seen += result.seen
    return Measured(loss_sum / max(count, 1), num_correct, count, seen)


@contextlib.contextmanager
def computing(device: torch.device, autocast: torch.dtype | None, length: int) -> Iterator[None]:
    """The attention kernel for rows of ``length`` tokens and, where the weights are wider than the compute type, autocast to it."""
    mixed = torch.autocast(device.type, dtype=autocast) if autocast is not None else contextlib.nullcontext()
    with attention_kernel(length, device), mixed:
        yield


def overall(figures: Mapping[str, float]) -> dict[str, float]:
    """Return a metric's figures without those of single labels (``f1[blue]``): with many labels they would drown the curves."""
    return {name: value for name, value in figures.items() if "[" not in name}
