"""How much an export may lose, and the rules by which that is decided.

The rules, in words:

* **exact** (a merge): no logit may differ by more than ``merged_logits``.
* **float** (an export without quantization): at ``float_top1`` of all positions the likeliest token must be the same. A position where the
  two tokens are within `TIE` of each other in the tuned model is a tie and counts as the same.
* **grid** (what was trained on the quantization grid): at ``grid_top1`` of the positions where the model writes.
* **quantized**, and all of the above: the task's metric may drop by ``task_drop`` of its value. Where it drops by more, the paired
  difference over rows has to be larger than chance makes it (95% interval, exact sign test); a drop that so few rows can't show is decided
  by the perplexity of the right answers, which may rise by ``perplexity_rise``. Where there is no metric of single answers, or the tuned
  model gets none right, perplexity alone decides.
* Fewer answers that stop by themselves count by the same test as the metric. Templates, token ids and stop tokens may not differ at all.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

from tunesmith.errors import UsageError

#: How a stage is judged: ``shown`` not at all, the others as the module says.
Judged = Literal["shown", "exact", "float", "grid", "quantized"]

#: Logits that differ by less are equal likelihood: which of two tokens comes first is then a matter of rounding.
TIE = 1e-3


@dataclass(frozen=True)
class Tolerances:
    """How much each kind of stage may lose.

    Attributes:
        merged_logits: largest difference of any logit after a merge; of an encoder-decoder, of an answer's log-probability a token.
        float_top1: least share of positions with the same likeliest token after an export without quantization.
        task_drop: part of the task's metric that may be lost.
        perplexity_rise: part by which the perplexity of the right answers may rise.
        grid_top1: least share of written positions with the same likeliest token for what was trained on the grid.
    """

    merged_logits: float = 1e-3
    float_top1: float = 0.999
    task_drop: float = 0.01
    perplexity_rise: float = 0.03
    grid_top1: float = 0.99

    def __post_init__(self) -> None:
        """Refuse what is no tolerance.

        Raises:
            UsageError: for a negative number, or a share above 1.
        """
        for item in fields(self):
            value = getattr(self, item.name)
            most = float("inf") if item.name in ("merged_logits", "perplexity_rise") else 1.0
            if not 0 <= value <= most:
                raise UsageError(
                    f"the tolerance {item.name} is {value}", fix=f"Give a number from 0 to {most:g}" if most == 1 else "Give 0 or more"
                )

    def to_dict(self) -> dict[str, float]:
        """Return the tolerances by name."""
        return {item.name: getattr(self, item.name) for item in fields(self)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Tolerances:
        """Read what :meth:`to_dict` wrote; keys of later versions are ignored."""
        return cls(**{item.name: float(values[item.name]) for item in fields(cls) if item.name in values})
