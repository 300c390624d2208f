"""What is decided by validation rows when training is over."""

from __future__ import annotations

from torch import nn

from tunesmith.data.prepare import Prepared
from tunesmith.tasks.protocol import Task
from tunesmith.train.measure import measure
from tunesmith.train.trainer import StepSettings


def settle(model: nn.Module, task: Task, validation: Prepared | None, settings: StepSettings) -> None:
    """Let validation rows decide what is left to decide for a head: its temperature, a threshold.

    Args:
        model: trained.
        task: its record gets what is decided.
        validation: rows; None where there are none, and nothing is decided.
        settings: how a step is computed.
    """
    if not task.record.head or validation is None:
        return
    found = measure(
        model.eval(),
        task,
        validation.dataset,
        max_tokens=settings.max_tokens,
        pad_token_id=settings.pad_token_id,
        device=next(model.parameters()).device,
        autocast=settings.autocast,
    )
    task.settle(found.seen)
