"""What validation rows decide after training: the temperature of probabilities, the threshold of a cosine.

N rows, L labels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

#: With fewer rows a temperature would be a guess.
FEWEST_ROWS = 10
COLDEST, HOTTEST = 0.05, 20.0
#: Each step narrows the bracket to 0.618 of it: 60 of them to less than a millionth of a millionth.
_STEPS = 60


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """Return the temperature T with which ``logits / T`` has the least negative log-likelihood (Guo et al. 2017, section 4.2).

    Labels count as ``(n + 1) / (n + 2)`` sure, as in Platt 1999, section 2.2: where every row is right, T would otherwise go to 0. The
    likelihood is convex in 1/T, so a golden-section search finds its only minimum.

    Args:
        logits: ``(N, L)``.
        labels: ``(N,)`` numbers, or ``(N, L)`` of zeros and ones where several may be right.
    """
    if len(labels) < FEWEST_ROWS:
        return 1.0
    logits, unsure = logits.double(), 1 / (len(labels) + 2)

    def unlikely(log_temperature: float) -> float:
        scaled = logits / math.exp(log_temperature)
        if labels.is_floating_point():
            return float(functional.binary_cross_entropy_with_logits(scaled, labels.double() * (1 - 2 * unsure) + unsure))
        return float(functional.cross_entropy(scaled, labels, label_smoothing=unsure))

    return math.exp(_golden_section(unlikely, math.log(COLDEST), math.log(HOTTEST)))


def fit_threshold(scores: Tensor, alike: Tensor) -> float:
    """Return the score from which on most rows are told right; halfway between two scores, the middle one of several that are as good.

    Args:
        scores: ``(N,)``; alike: ``(N,)`` bool.
    """
    order = scores.argsort()
    scores, alike = scores[order].double(), alike[order].long()
    below = torch.cat([torch.zeros(1, dtype=torch.long), (1 - alike).cumsum(0)])  # unlike rows below each cut
    above = alike.sum() - torch.cat([torch.zeros(1, dtype=torch.long), alike.cumsum(0)])
    cuts = torch.cat([scores[:1] - 1e-6, (scores[:-1] + scores[1:]) / 2, scores[-1:] + 1e-6])
    apart = torch.cat([torch.ones(1), (scores[1:] > scores[:-1]).float(), torch.ones(1)]).bool()  # equal scores can't be cut between
    right = torch.where(apart, below + above, -1)
    best = (right == right.max()).nonzero().flatten()
    return float(cuts[best[len(best) // 2]])


def _golden_section(function: object, low: float, high: float) -> float:
    assert callable(function)
    ratio = (math.sqrt(5) - 1) / 2
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    at_left, at_right = function(left), function(right)
    for _ in range(_STEPS):
        if at_left < at_right:
            high, right, at_right = right, left, at_left
            left = high - ratio * (high - low)
            at_left = function(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + ratio * (high - low)
            at_right = function(right)
    return (low + high) / 2
