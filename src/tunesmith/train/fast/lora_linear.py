"""Cheap LoRA and DoRA: the forward of peft's linear layers as one autograd function (the formulas are in `tunesmith.train.fast.products`).

peft casts the input to float32 for float32 adapters and runs two products, a scaling and a sum, each of which keeps tensors for the
backward pass; with autocast it is twice as slow as adapters in bfloat16. Here the master weights stay float32 and nothing is cast.
"""

from __future__ import annotations

import types
from collections.abc import Sequence
from typing import Any

import torch
from peft.tuners.lora import Linear as PeftLinear
from peft.tuners.lora.variants import DoraLinearVariant
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from tunesmith.methods.grid_linear import GridLinear
from tunesmith.train.fast.products import Adapter, Kept, Layer, SharedLayers, product_gradients, products

#: float16 is left to peft: its float32 adapters keep small gradients that would be lost in half precision.
_DTYPES = (torch.bfloat16, torch.float32, torch.float64)


def frozen_layer(module: nn.Module) -> Layer | None:
    """What `products` computes for a module; None for kinds of layers or adapters that it doesn't know, or with trainable base weights."""
    base = module.get_base_layer() if isinstance(module, PeftLinear) else module
    if type(base) not in (nn.Linear, Conv1D, GridLinear) or any(parameter.requires_grad for parameter in base.parameters()):
        return None
    if not isinstance(module, PeftLinear) or module.disable_adapters or module.merged:
        return Layer(base, None)
    active = [name for name in module.active_adapters if name in module.lora_A]
    if len(active) != 1:
        return None if active else Layer(base, None)
    return _adapted_layer(module, base, active[0])


def _adapted_layer(module: PeftLinear, base: nn.Module, name: str) -> Layer | None:
    variant, magnitude = module.lora_variant.get(name), None
    if module.lora_bias.get(name) or (
        variant is not None and not isinstance(variant, DoraLinearVariant) and variant is not DoraLinearVariant
    ):
        return None
    if variant is not None:
        magnitude = module.lora_magnitude_vector[name].weight
    return Layer(base, Adapter(module.lora_A[name].weight, module.lora_B[name].weight, float(module.scaling[name]), magnitude))


def dropout_of(module: nn.Module) -> float:
    """The dropout that a layer's adapter applies to its input now."""
    if not isinstance(module, PeftLinear) or not module.training:
        return 0.0
    dropouts = [module.lora_dropout[name] for name in module.active_adapters if name in module.lora_dropout]
    return max((float(getattr(dropout, "p", 0.0)) for dropout in dropouts), default=0.0)


class SharedInput:
    """Modules that read one input, seen as the layers that `products` knows for as long as the state of their adapters stays what it is."""

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        self.modules = tuple(modules)
        self._state: object = None
        self._layers: SharedLayers | None = None

    def layers(self, inputs: Tensor) -> SharedLayers | None:
        """The layers; None when ``inputs`` must go through the modules themselves now."""
        if inputs.dtype not in _DTYPES or torch.is_autocast_enabled(inputs.device.type):
            return None
        return self.known_layers()

    def known_layers(self) -> SharedLayers | None:
        """The layers; None when one of the modules is of another kind."""
        state = tuple(_state(module) for module in self.modules)
        if state != self._state:
            layers = [frozen_layer(module) for module in self.modules]
            known = [layer for layer in layers if layer is not None]
            self._layers = SharedLayers(known) if len(known) == len(layers) else None
            self._state = state
        return self._layers

    def dropout(self) -> float:
        """The largest dropout before one of the adapters."""
        return max(dropout_of(module) for module in self.modules)

    def __call__(self, inputs: Tensor) -> list[Tensor]:
        """``(..., I)`` to ``(..., O_i)`` of each module."""
        layers, dropout = self.layers(inputs), self.dropout()
        if layers is None or (dropout and len(self.modules) > 1):
            return [module(inputs) for module in self.modules]
        dropped = nn.functional.dropout(inputs, dropout) if dropout else None
        outputs: tuple[Tensor, ...] = _SharedProducts.apply(layers, inputs, dropped, *layers.parameters())  # type: ignore[no-untyped-call]
        return list(outputs)


def _state(module: nn.Module) -> tuple[object, ...]:
    if not isinstance(module, PeftLinear):
        return ()
    names = tuple(module.active_adapters)
    weights = tuple(id(layers[name].weight) for name in names for layers in (module.lora_A, module.lora_B) if name in layers)
    return (module.disable_adapters, module.merged, names, weights, tuple(module.scaling.get(name) for name in names))


class _SharedProducts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, layers: SharedLayers, inputs: Tensor, dropped: Tensor | None, *parameters: Tensor) -> tuple[Tensor, ...]:
        rows = inputs.reshape(-1, inputs.shape[-1])
        adapter_rows = None if dropped is None else dropped.reshape(rows.shape)
        outputs, kept = products(layers, rows, adapter_rows)
        ctx.save_for_backward(rows if parameters else None, adapter_rows, *kept.tensors())
        ctx.layers, ctx.shape = layers, inputs.shape
        return tuple(output.reshape(*inputs.shape[:-1], -1) for output in outputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        rows, adapter_rows, *kept = ctx.saved_tensors
        grads = tuple(grad.reshape(-1, grad.shape[-1]) for grad in grads)
        rows = grads[0] if rows is None else rows  # without adapters only its dtype is looked at
        d_rows, d_adapter_rows, d_parameters = product_gradients(
            ctx.layers, rows, Kept.of_tensors(kept), grads, needs_rows=ctx.needs_input_grad[1], adapter_rows=adapter_rows
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

    def forward(self: PeftLinear, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        layers = shared.layers(x)
        # DoRA with dropout uses the dropped input for the frozen product too: peft's own.
        dora_dropped = layers is not None and shared.dropout() and any(adapter.magnitude is not None for adapter in layers.adapters)
        if args or kwargs or layers is None or dora_dropped:
            return own(self, x, *args, **kwargs)
        return shared(x)[0]

    module.forward = types.MethodType(forward, module)
    return True
