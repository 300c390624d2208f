"""Rotary position embedding in three passes, forward and backward, without the copies of ``rotate_half``.

N tokens, H heads, E head size.

    y_1 = x_1 cos_1 - x_2 sin_1,  y_2 = x_2 cos_2 + x_1 sin_2      (Su et al., 2021, "RoFormer", in the halves that Llama's code uses)
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the pairs ``(x_1, x_2)`` of every head by the angle of its token.

    Args:
        x: ``(N, H, E)``, any strides.
        cos: ``(N, 1, E)``.
        sin: ``(N, 1, E)``.
    """
    return cast(Tensor, _Rotate.apply(x, cos, sin))  # type: ignore[no-untyped-call]


class _Rotate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        half = x.shape[-1] // 2
        output = torch.mul(x, cos)
        output[..., :half].addcmul_(x[..., half:], sin[..., :half], value=-1.0)
        output[..., half:].addcmul_(x[..., :half], sin[..., half:])
        return output

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        half = grad.shape[-1] // 2
        d_x = torch.mul(grad, cos)
        d_x[..., :half].addcmul_(grad[..., half:], sin[..., half:])
        d_x[..., half:].addcmul_(grad[..., :half], sin[..., :half], value=-1.0)
        return d_x, None, None
