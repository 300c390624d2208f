"""How well a model foresees the right answers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from tunesmith.metrics.protocol import Needs


class Scored(Protocol):
    """A text that a model has scored, such as ``tunesmith.runtime.protocol.Likelihood``."""

    @property
    def log_prob(self) -> float:
        """Natural logarithm of the text's probability."""

    @property
    def num_tokens(self) -> int:
        """Tokens scored."""


@dataclass(frozen=True)
class Perplexity:
    """exp of the mean loss of the right answers' tokens: among how many tokens the model is as undecided as a fair die."""

    name: ClassVar[str] = "perplexity"
    headline: ClassVar[str] = "perplexity"
    greater_is_better: ClassVar[bool] = False
    needs: ClassVar[Needs] = "likelihood"

    def compute(self, predictions: Sequence[Scored], references: Sequence[Any]) -> dict[str, float]:
        """Return ``perplexity`` over all tokens of all rows, infinity where the model excludes a token."""
        num_tokens = sum(scored.num_tokens for scored in predictions)
        loss = -sum(scored.log_prob for scored in predictions) / max(1, num_tokens)
        return {"perplexity": math.exp(loss) if loss < 700 else math.inf}

    def per_row(self, predictions: Sequence[Scored], references: Sequence[Any]) -> list[float]:
        """Return minus the mean loss of each row's tokens."""
        return [scored.log_prob / max(1, scored.num_tokens) for scored in predictions]
