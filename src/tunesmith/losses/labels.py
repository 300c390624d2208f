"""Losses of scores against labels: ``forward(logits, labels)``, a mean over rows.

N rows, V labels (the vocabulary, where text is learnt).

Labels are ``(N,)`` numbers of the right label, or, where several labels may be right at once, ``(N, V)`` of zeros and ones; then each label
is a yes-or-no question of its own and a row's loss the mean over them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from tunesmith.errors import UsageError


class CrossEntropy(nn.Module):
    """``-log p`` of the right label, times its weight.

    The mean is over rows, not over weights as in ``torch.nn.CrossEntropyLoss``: a row's share doesn't depend on which rows share its batch.

    Args:
        weights: ``(V,)`` weight of each label.
    """

    def __init__(self, weights: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("weights", weights, persistent=False)
        self.weights: Tensor | None

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean over rows of ``logits`` ``(N, V)``."""
        if labels.is_floating_point():
            each = functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")  # (N, V)
            return (each if self.weights is None else each * self.weights.to(each)).mean()
        each = functional.cross_entropy(logits, labels, reduction="none")  # (N,)
        return (each if self.weights is None else each * self.weights.to(each)[labels]).mean()


class LabelSmoothing(nn.Module):
    """Cross-entropy against ``1 - epsilon`` on the right label and ``epsilon / V`` on every one (Szegedy et al. 2016, section 7)."""

    def __init__(self, epsilon: float = 0.1) -> None:
        super().__init__()
        if not 0 <= epsilon < 1:
            raise UsageError(f"--loss label-smoothing: epsilon is {epsilon}, it must be at least 0 and below 1")
        self.epsilon = epsilon

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean over rows of ``logits`` ``(N, V)``."""
        if labels.is_floating_point():
            return functional.binary_cross_entropy_with_logits(logits, labels * (1 - self.epsilon) + self.epsilon / 2)
        return functional.cross_entropy(logits, labels, label_smoothing=self.epsilon)


class Focal(nn.Module):
    """``-(1 - p)^gamma log p`` of the right label, times its weight: rows that are right already count less (Lin et al. 2017, section 3).

    Args:
        gamma: how much less; 0 is cross-entropy.
        weights: ``(V,)`` weight of each label.
    """

    def __init__(self, gamma: float = 2.0, weights: Tensor | None = None) -> None:
        super().__init__()
        if gamma < 0:
            raise UsageError(f"--loss focal: gamma is {gamma}, it must be at least 0")
        self.gamma = gamma
        self.register_buffer("weights", weights, persistent=False)
        self.weights: Tensor | None

    def forward(self, logits: Tensor, labels: Tensor, row_weights: Tensor | None = None) -> Tensor:
        """Mean over rows of ``logits`` ``(N, V)``; ``row_weights`` ``(N,)`` where the weight isn't the label's (text: a row's tokens)."""
        if labels.is_floating_point():
            each = functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")
        else:
            each = functional.cross_entropy(logits, labels, reduction="none")
        # -expm1 keeps the digits of 1 - p where p is close to 1; the clamp keeps the power's slope finite at p = 1
        each = (-torch.expm1(-each)).clamp_min(1e-8) ** self.gamma * each
        if self.weights is not None:
            weights = self.weights.to(each)
            each = each * (weights if labels.is_floating_point() else weights[labels])
        return (each if row_weights is None else each * row_weights).mean()
