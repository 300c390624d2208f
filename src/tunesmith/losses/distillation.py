"""Learning from a larger model: ``forward(logits, labels, teacher_logits)``, a mean over rows.

N rows, V labels or tokens.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from tunesmith.errors import UsageError


class Distillation(nn.Module):
    """``alpha T^2 KL(teacher || student) + (1 - alpha) cross-entropy``, both softened by the temperature T (Hinton et al. 2015, section 2).

    Args:
        temperature: above 1 shows more of what the teacher thinks of the other labels.
        alpha: share of the teacher; the rest is the labels'.
    """

    def __init__(self, temperature: float = 2.0, alpha: float = 0.5) -> None:
        super().__init__()
        problems = [f"temperature is {temperature}, it must be above 0"] if temperature <= 0 else []
        problems += [f"alpha is {alpha}, it must be between 0 and 1"] if not 0 <= alpha <= 1 else []
        if problems:
            raise UsageError(f"--loss distillation: {'; '.join(problems)}")
        self.temperature, self.alpha = temperature, alpha

    def forward(self, logits: Tensor, labels: Tensor, teacher_logits: Tensor) -> Tensor:
        """Mean over rows of ``logits`` and ``teacher_logits`` ``(N, V)`` with ``labels`` ``(N,)``."""
        student = functional.log_softmax(logits / self.temperature, dim=-1)
        teacher = functional.log_softmax(teacher_logits / self.temperature, dim=-1)
        apart = functional.kl_div(student, teacher, reduction="batchmean", log_target=True)
        return self.alpha * self.temperature**2 * apart + (1 - self.alpha) * functional.cross_entropy(logits, labels)
