"""Cross-entropy of a linear output layer without holding all logits, gradient included.

N supervised tokens, D hidden size, V vocabulary.

The gradient of a chunk's logits is known as soon as its loss is, so it is turned into the gradients of the hidden states and the weight
on the spot and the logits are dropped (Hsu et al., 2024, "Liger Kernel", section 3.2). Nothing of size ``N x V`` survives a chunk.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from tunesmith.errors import ShapeError


class CrossEntropy(NamedTuple):
    """Sum of token losses (scalar float32, carries the gradient) and the number of tokens whose most likely prediction was right."""

    loss_sum: Tensor
    num_correct: int


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    *,
    bias: Tensor | None = None,
    scale: float = 1.0,
    softcap: float | None = None,
    token_weights: Tensor | None = None,
    chunk_tokens: int = 1024,
) -> CrossEntropy:
    """Sum of token cross-entropies of ``cap(scale * (hidden @ weight.T + bias))``, without ever holding all logits.

    Args:
        hidden: ``(N, D)`` rows at supervised positions only.
        weight: ``(V, D)`` output embedding.
        labels: ``(N,)`` token ids.
        bias: ``(V,)`` of the output layer.
        scale: factor on the logits (Granite divides, Cohere multiplies them).
        softcap: ``cap(x) = softcap * tanh(x / softcap)`` when given (Gemma 2, section 2 of its report).
        token_weights: ``(N,)`` float32 factors on the losses of the tokens, 0 or more.
        chunk_tokens: rows of logits alive at once; peak memory is about ``chunk_tokens * V`` floats.

    Returns: the float32 sum, to be divided by the number of supervised tokens of the whole step, and the count of right predictions.
    Raises: ShapeError: when the rows of ``hidden`` and ``labels`` differ, or the widths of ``hidden`` and ``weight``.
    """
    if hidden.dim() != 2 or labels.shape != hidden.shape[:1] or hidden.shape[1] != weight.shape[1]:
        raise ShapeError(f"hidden {tuple(hidden.shape)}, weight {tuple(weight.shape)} and labels {tuple(labels.shape)} don't fit together")
    device = hidden.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
    options = (dtype, float(scale), None if softcap is None else float(softcap), int(chunk_tokens))
    with torch.autocast(device, enabled=False):
        loss_sum, num_correct = _LinearCrossEntropy.apply(hidden, weight, bias, labels, token_weights, options)  # type: ignore[no-untyped-call]
    return CrossEntropy(loss_sum, int(num_correct))


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        labels: Tensor,
        token_weights: Tensor | None,
        options: tuple[torch.dtype, float, float | None, int],
    ) -> tuple[Tensor, Tensor]:
        dtype, scale, softcap, chunk_tokens = options
        needs_hidden, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        d_hidden = torch.empty_like(hidden, dtype=dtype) if needs_hidden else None
        d_weight = torch.zeros_like(weight, dtype=torch.float32) if needs_weight else None
        d_bias = torch.zeros_like(bias, dtype=torch.float32) if bias is not None and needs_bias else None
        loss_sum = hidden.new_zeros((), dtype=torch.float64)
        num_correct = labels.new_zeros(())
        weight_as = weight.to(dtype)
        for start in range(0, hidden.shape[0], chunk_tokens):
            rows = slice(start, start + chunk_tokens)
            chunk, targets = hidden[rows].to(dtype), labels[rows]
            logits = _logits(chunk, weight_as, bias, scale, softcap)  # (n, V) float32
            largest, predicted = logits.max(dim=-1)
            num_correct += (predicted == targets).sum()
            target_logits = logits.gather(1, targets[:, None]).squeeze(1)
            slope = _cap_slope(logits, softcap, scale) if softcap is not None else None
            weights = logits.sub_(largest[:, None]).exp_()
            total = weights.sum(dim=-1)
            losses = total.log() + largest - target_logits
            pull = losses.new_full(losses.shape, -1.0)
            if token_weights is not None:  # the gradient gets them with the division by ``total``, without a pass of their own
                losses, pull, total = losses * token_weights[rows], -token_weights[rows], total / token_weights[rows]
            loss_sum += losses.sum(dtype=torch.float64)
            if d_hidden is None and d_weight is None and d_bias is None:
                continue
            d_logits = weights.div_(total[:, None])  # softmax
            d_logits.scatter_add_(1, targets[:, None], pull[:, None])
            d_logits = d_logits.mul_(slope) if slope is not None else (d_logits.mul_(scale) if scale != 1.0 else d_logits)
            if d_bias is not None:
                d_bias += d_logits.sum(dim=0)
            d_logits = d_logits.to(dtype)
            if d_hidden is not None:
                torch.mm(d_logits, weight_as, out=d_hidden[rows])
            if d_weight is not None:
                d_weight += d_logits.t() @ chunk
        ctx.save_for_backward(d_hidden, d_weight, d_bias)
        ctx.dtypes = (hidden.dtype, weight.dtype, None if bias is None else bias.dtype)
        ctx.mark_non_differentiable(num_correct)
        return loss_sum.float(), num_correct

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Any) -> tuple[Tensor | None, ...]:
        d_hidden, d_weight, d_bias = ctx.saved_tensors
        hidden_dtype, weight_dtype, bias_dtype = ctx.dtypes
        return (
            None if d_hidden is None else (d_hidden * grad).to(hidden_dtype),
            None if d_weight is None else (d_weight * grad).to(weight_dtype),
            None if d_bias is None else (d_bias * grad).to(bias_dtype),
            None,
            None,
            None,
        )


def _logits(hidden: Tensor, weight: Tensor, bias: Tensor | None, scale: float, softcap: float | None) -> Tensor:
    logits = torch.nn.functional.linear(hidden, weight, None if bias is None else bias.to(hidden.dtype)).float()
    if scale != 1.0:
        logits = logits.mul_(scale)
    return logits if softcap is None else logits.div_(softcap).tanh_().mul_(softcap)


def _cap_slope(capped: Tensor, softcap: float, scale: float) -> Tensor:
    """Derivative of ``softcap * tanh(scale * x / softcap)`` written in its value: ``scale * (1 - (value / softcap)^2)``."""
    return capped.div(softcap).square_().neg_().add_(1.0).mul_(scale)
