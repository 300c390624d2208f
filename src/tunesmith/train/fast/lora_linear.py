"""Cheap LoRA: the forward of peft's linear layers as one autograd function (see `tunesmith.train.fast.products` for what it computes).

peft casts the input to float32 for float32 adapters and runs two products, a scaling and a sum, each of which keeps tensors for the
backward pass; with autocast it is twice as slow as adapters in bfloat16. Here the master weights stay float32 and nothing is cast.
"""

from __future__ import annotations

import types
from collections.abc import Sequence
from typing import Any

import torch
from peft.tuners.lora import Linear as PeftLinear
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from tunesmith.methods.grid_linear import GridLinear
from tunesmith.train.fast.products import Adapter, AdapterCopies, Layer, product_gradients, products


def frozen_layer(module: nn.Module) -> Layer | None:
    """What `products` computes for a module; None for kinds of layers or adapters that it doesn't know, or with trainable base weights."""
    base = module.get_base_layer() if isinstance(module, PeftLinear) else module
    if type(base) not in (nn.Linear, Conv1D, GridLinear) or any(parameter.requires_grad for parameter in base.parameters()):
        return None
    if not isinstance(module, PeftLinear) or module.disable_adapters or module.merged:
        return Layer(base, None)
    active = [name for name in module.active_adapters if name in module.lora_A]
    if not active:
        return Layer(base, None)
    name = active[0]
    if len(active) > 1 or name in module.lora_variant or module.lora_bias.get(name):
        return None
    return Layer(base, Adapter(module.lora_A[name].weight, module.lora_B[name].weight, float(module.scaling[name])))


def dropout_of(module: nn.Module) -> float:
    """The dropout that a layer's adapter applies to its input now."""
    if not isinstance(module, PeftLinear) or not module.training:
        return 0.0
    dropouts = [module.lora_dropout[name] for name in module.active_adapters if name in module.lora_dropout]
    return max((float(getattr(dropout, "p", 0.0)) for dropout in dropouts), default=0.0)


class SharedInput:
    """Layers that read one input, with the copies of their adapters, for as long as the state of their adapters stays what it is."""

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        self.modules = tuple(modules)
        self._state: object = None
        self._copies: AdapterCopies | None = None

    def copies(self) -> AdapterCopies | None:
        """The layers as `products` takes them; None when one of them can't be computed that way now."""
        state = tuple(_state(module) for module in self.modules)
        if state != self._state:
            layers = [frozen_layer(module) for module in self.modules]
            known = [layer for layer in layers if layer is not None]
            self._copies = AdapterCopies(known) if len(known) == len(layers) else None
            self._state = state
        return self._copies

    def __call__(self, inputs: Tensor) -> list[Tensor]:
        """``(..., I)`` to ``(..., O_i)`` of each layer."""
        copies = self.copies()
        dropout = max(dropout_of(module) for module in self.modules)
        if copies is None or torch.is_autocast_enabled(inputs.device.type) or (dropout and len(self.modules) > 1):
            return [module(inputs) for module in self.modules]
        dropped = nn.functional.dropout(inputs, dropout) if dropout else None
        outputs: tuple[Tensor, ...] = _SharedProducts.apply(copies, inputs, dropped, *copies.parameters())
        return list(outputs)


def _state(module: nn.Module) -> tuple[object, ...]:
    if not isinstance(module, PeftLinear):
        return ()
    names = tuple(module.active_adapters)
    weights = tuple(id(layers[name].weight) for name in names for layers in (module.lora_A, module.lora_B) if name in layers)
    return (module.disable_adapters, module.merged, names, weights, tuple(module.scaling.get(name) for name in names))


class _SharedProducts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, copies: AdapterCopies, inputs: Tensor, dropped: Tensor | None, *parameters: Tensor) -> tuple[Tensor, ...]:
        rows = inputs.reshape(-1, inputs.shape[-1])
        adapter_rows = None if dropped is None else dropped.reshape(rows.shape)
        outputs, low_rank = products(copies, rows, adapter_rows)
        ctx.save_for_backward(rows if parameters else None, adapter_rows, low_rank)
        ctx.copies, ctx.shape, ctx.dtype = copies, inputs.shape, inputs.dtype
        return tuple(output.unflatten(0, inputs.shape[:-1]) for output in outputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        rows, adapter_rows, low_rank = ctx.saved_tensors
        grads = tuple(grad.reshape(-1, grad.shape[-1]) for grad in grads)
        d_rows, d_adapter_rows, d_parameters = product_gradients(
            ctx.copies, grads[0] if rows is None else rows, low_rank, grads, needs_rows=ctx.needs_input_grad[1], adapter_rows=adapter_rows
        )
        d_inputs = None if d_rows is None else d_rows.reshape(ctx.shape)
        d_dropped = None if d_adapter_rows is None else d_adapter_rows.reshape(ctx.shape)
        return (None, d_inputs, d_dropped, *d_parameters)


def fast_lora_forward(module: nn.Module) -> bool:
    """Give one peft layer the cheap forward; whatever it can't do (mixed batches, several adapters) still goes through peft's own.

    Returns: whether the layer is of a kind that it fits.
    """
    if not isinstance(module, PeftLinear) or "forward" in module.__dict__ or frozen_layer(module) is None:
        return False
    shared = SharedInput([module])
    own = type(module).forward

    def forward(self: PeftLinear, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if args or kwargs or shared.copies() is None or torch.is_autocast_enabled(x.device.type):
            result: Tensor = own(self, x, *args, **kwargs)
            return result
        return shared(x)[0]

    module.forward = types.MethodType(forward, module)  # type: ignore[method-assign]
    return True
