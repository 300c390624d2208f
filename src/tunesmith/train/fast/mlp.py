"""The gated feed-forward part of a decoder block in one autograd function.

N tokens, D hidden size, F feed-forward size.

    y = W_down (act(W_gate x) * (W_up x))                                       (Shazeer, 2020, "GLU Variants Improve Transformer")

Kept for the backward pass: the input, gate and up ``(N, F)``, and the adapters' small products; the activation and its product with ``up``
are computed again, which is cheaper than reading them back. Gradients reuse the buffers that are no longer needed.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tunesmith.train.fast.lora_linear import SharedInput, dropout_of
from tunesmith.train.fast.products import AdapterCopies, product_gradients, products


class Activation(NamedTuple):
    """``value(x)`` and ``gradient(d_output, x)``."""

    value: Callable[[Tensor], Tensor]
    gradient: Callable[[Tensor, Tensor], Tensor]


_ops = torch.ops.aten
ACTIVATIONS: dict[str, Activation] = {
    "silu": Activation(nn.functional.silu, _ops.silu_backward),
    "gelu": Activation(nn.functional.gelu, _ops.gelu_backward),
    "gelu_pytorch_tanh": Activation(
        lambda x: nn.functional.gelu(x, approximate="tanh"), lambda grad, x: _ops.gelu_backward(grad, x, approximate="tanh")
    ),
}
ACTIVATIONS["swish"] = ACTIVATIONS["silu"]


class _GatedMlp(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, inner: AdapterCopies, outer: AdapterCopies, activation: Activation, inputs: Tensor, *parameters: Tensor
    ) -> Tensor:
        rows = inputs.reshape(-1, inputs.shape[-1])
        (gate, up), low_rank = products(inner, rows)
        (output,), outer_low_rank = products(outer, activation.value(gate).mul_(up))
        ctx.save_for_backward(rows if inner.rank else None, gate, up, low_rank, outer_low_rank)
        ctx.inner, ctx.outer, ctx.activation, ctx.shape = inner, outer, activation, inputs.shape
        return output.reshape(inputs.shape)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        rows, gate, up, low_rank, outer_low_rank = ctx.saved_tensors
        grad = grad.reshape(-1, grad.shape[-1])
        active = ctx.activation.value(gate)
        d_product, _, d_outer = product_gradients(ctx.outer, active * up, outer_low_rank, [grad], needs_rows=True)
        assert d_product is not None
        d_up = active.mul_(d_product)
        d_gate = ctx.activation.gradient(d_product.mul_(up), gate)
        d_rows, _, d_inner = product_gradients(
            ctx.inner, gate if rows is None else rows, low_rank, [d_gate, d_up], needs_rows=ctx.needs_input_grad[3]
        )
        return (None, None, None, None if d_rows is None else d_rows.reshape(ctx.shape), *d_inner, *d_outer)


def fast_mlp_forward(module: nn.Module, activation_name: str) -> bool:
    """Give a gated feed-forward module (``gate_proj``, ``up_proj``, ``down_proj``) with frozen base weights the fused forward.

    Returns: whether the module is of a kind that it fits.
    """
    names = ("gate_proj", "up_proj", "down_proj")
    activation = ACTIVATIONS.get(activation_name)
    if activation is None or "forward" in module.__dict__ or {name for name, _ in module.named_children()} - {"act_fn", "bottleneck"} != set(names):
        return False
    gate_proj, up_proj, down_proj = (getattr(module, name) for name in names)
    inner, outer = SharedInput([gate_proj, up_proj]), SharedInput([down_proj])
    if inner.copies() is None or outer.copies() is None:
        return False
    own = type(module).forward

    def forward(self: nn.Module, x: Tensor) -> Tensor:
        inner_copies, outer_copies = inner.copies(), outer.copies()
        dropout = any(dropout_of(layer) for layer in (gate_proj, up_proj, down_proj))
        if inner_copies is None or outer_copies is None or dropout or torch.is_autocast_enabled(x.device.type):
            result: Tensor = own(self, x)
            return result
        output: Tensor = _GatedMlp.apply(
            inner_copies, outer_copies, activation, x, *inner_copies.parameters(), *outer_copies.parameters()
        )
        return output

    module.forward = types.MethodType(forward, module)  # type: ignore[method-assign]
    return True
