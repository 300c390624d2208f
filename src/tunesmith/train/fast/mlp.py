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

from tunesmith.train.fast.lora_linear import SharedInput
from tunesmith.train.fast.products import Kept, SharedLayers, product_gradients, products


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
    def forward(ctx: Any, inner: SharedLayers, outer: SharedLayers, activation: Activation, inputs: Tensor, *parameters: Tensor) -> Tensor:
        rows = inputs.reshape(-1, inputs.shape[-1])
        (gate, up), inner_kept = products(inner, rows)
        (output,), outer_kept = products(outer, activation.value(gate).mul_(up))
        ctx.save_for_backward(rows if inner.rank else None, gate, up, *inner_kept.tensors(), *outer_kept.tensors())
        ctx.inner, ctx.outer, ctx.activation, ctx.shape = inner, outer, activation, inputs.shape
        ctx.num_inner = len(inner_kept.tensors())
        return output.reshape(inputs.shape)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        rows, gate, up, *kept = ctx.saved_tensors
        inner_kept, outer_kept = Kept.of_tensors(kept[: ctx.num_inner]), Kept.of_tensors(kept[ctx.num_inner :])
        active = ctx.activation.value(gate)
        grads = [grad.reshape(-1, grad.shape[-1])]
        product = active * up if ctx.outer.rank else gate  # without adapters only its dtype is looked at
        d_product, _, d_outer = product_gradients(ctx.outer, product, outer_kept, grads, needs_rows=True)
        assert d_product is not None
        d_up = active.mul_(d_product)
        d_gate = ctx.activation.gradient(d_product.mul_(up), gate)
        rows = gate if rows is None else rows
        d_rows, _, d_inner = product_gradients(ctx.inner, rows, inner_kept, [d_gate, d_up], needs_rows=ctx.needs_input_grad[3])
        return (None, None, None, None if d_rows is None else d_rows.reshape(ctx.shape), *d_inner, *d_outer)


def fast_mlp_forward(module: nn.Module, activation_name: str) -> bool:
    """Give a gated feed-forward module (``gate_proj``, ``up_proj``, ``down_proj``) with frozen base weights the fused forward.

    Returns: whether the module is of a kind that it fits.
    """
    activation = ACTIVATIONS.get(activation_name)
    children = dict(module.named_children())
    found = [children.pop(name, None) for name in ("gate_proj", "up_proj", "down_proj")]
    gate_proj, up_proj, down_proj = found
    # A bottleneck adapter is a child too, which a hook calls after the forward.
    if activation is None or "forward" in module.__dict__ or children.keys() - {"act_fn", "bottleneck"}:
        return False
    if gate_proj is None or up_proj is None or down_proj is None:
        return False
    inner, outer = SharedInput([gate_proj, up_proj]), SharedInput([down_proj])
    if inner.known_layers() is None or outer.known_layers() is None:
        return False
    own = type(module).forward

    def forward(self: nn.Module, x: Tensor) -> Any:
        inner_layers, outer_layers = inner.layers(x), outer.layers(x)
        if inner_layers is None or outer_layers is None or inner.dropout() or outer.dropout():
            return own(self, x)
        parameters = (*inner_layers.parameters(), *outer_layers.parameters())
        return _GatedMlp.apply(inner_layers, outer_layers, activation, x, *parameters)  # type: ignore[no-untyped-call]

    module.forward = types.MethodType(forward, module)
    return True
