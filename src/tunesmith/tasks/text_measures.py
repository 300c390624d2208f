"""What the tasks that write text measure while they train: sums of one forward pass, whichever half of a model wrote them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import nn

if TYPE_CHECKING:
    from tunesmith.metrics.protocol import Needs


class TextMeasures:
    """The measuring part of a `Task` that writes text."""

    loss_module: nn.Module | None
    weighted: bool

    def metrics(self, loss: float, num_correct: int, count: int, seen: Sequence[tuple[Any, Any]]) -> dict[str, float]:
        """Loss, perplexity (where the loss is cross-entropy, without weights) and token accuracy."""
        perplexity = {} if self.loss_module is not None or self.weighted else {"perplexity": math.exp(min(loss, 50.0))}
        return {"loss": loss, **perplexity, "token_accuracy": num_correct / max(count, 1)}

    def for_metric(self, needs: Needs, seen: Sequence[tuple[Any, Any]]) -> tuple[list[Any], list[list[Any]]]:
        """Nothing: a forward pass over text leaves sums alone; `SampleAnswers.metrics` has answers generated instead."""
        return [], []

    def settle(self, seen: Sequence[tuple[Any, Any]]) -> None:
        """Nothing is set by validation rows."""
