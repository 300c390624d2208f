"""Products of one input with frozen weights and low-rank adapters, forward and backward, as few matrix products as there can be.

N tokens, I inputs, O outputs, R rank (of all adapters on one input together), s scaling.

    LoRA:  y_i = x W_i^T + b_i + s_i (x A_i^T) B_i^T                        (Hu et al., 2022, section 4.1)
    DoRA:  y_i = (m_i / n_i) (x W_i^T + s_i (x A_i^T) B_i^T) + b_i,  n_i = ||W_i + s_i B_i A_i|| by row, a constant for the gradient
                                                                            (Liu et al., 2024, sections 4.1 and 4.3)

Layers that read the same input share it: one product ``x A^T`` for all their adapters, one sum of input gradients accumulated inside the
products, and only ``x`` and the small ``h = x A^T`` are kept for the backward pass. Adapters are trained in float32; products are taken
with copies in the dtype of the input. ``W + s B A`` is never made, not even for its norm:

    n^2 = ||W||^2 + 2 s rowsum((W A^T) * B) + s^2 rowsum((B A A^T) * B)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tunesmith.methods.grid_linear import frozen_weight


@dataclass(frozen=True)
class Adapter:
    """Low-rank adapter: ``lora_a`` ``(R, I)``, ``lora_b`` ``(O, R)``, factor ``s`` on their product; for DoRA ``magnitude`` ``(O,)``."""

    lora_a: nn.Parameter
    lora_b: nn.Parameter
    scaling: float
    magnitude: nn.Parameter | None = None

    def parameters(self) -> list[nn.Parameter]:
        """What is trained."""
        return [self.lora_a, self.lora_b] + ([] if self.magnitude is None else [self.magnitude])


@dataclass(frozen=True)
class Layer:
    """A frozen linear layer (``nn.Linear``, ``Conv1D``, or on the int4 grid) with an adapter or without."""

    base: nn.Module
    adapter: Adapter | None

    def weight(self, dtype: torch.dtype) -> Tensor:
        """The frozen weight, ``(O, I)``."""
        weight = frozen_weight(self.base, dtype)
        if weight is None:  # Conv1D keeps its weight transposed
            assert isinstance(self.base.weight, Tensor)
            weight = self.base.weight.t().to(dtype)
        return weight

    def bias(self, dtype: torch.dtype) -> Tensor | None:
        """``(O,)`` or None."""
        bias = self.base.bias
        return bias.to(dtype) if isinstance(bias, Tensor) else None


class SharedLayers:
    """Layers with a common input, and where their adapters lie in the common product ``h``."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        self.layers = tuple(layers)
        self.adapters = tuple(layer.adapter for layer in layers if layer.adapter is not None)
        ranks = [layer.adapter.lora_a.shape[0] if layer.adapter else 0 for layer in layers]
        stops = [sum(ranks[: i + 1]) for i in range(len(ranks))]
        #: The columns of ``h`` that belong to each layer.
        self.columns = [slice(stop - rank, stop) for stop, rank in zip(stops, ranks, strict=True)]
        self.rank = sum(ranks)

    def parameters(self) -> list[nn.Parameter]:
        """Master weights in the order in which gradients are returned."""
        return [parameter for adapter in self.adapters for parameter in adapter.parameters()]


class Kept(NamedTuple):
    """What the backward pass needs besides the input; entries of layers that don't have it are None.

    Attributes:
        lora_a: all ``A`` on top of each other in the dtype of the products, ``(R, I)``.
        low_rank: ``h``, ``(N, R)``.
        lora_b: ``B`` of each layer in the dtype of the products, ``(O, R_i)``.
        unscaled: DoRA's output before the factor and the bias, ``(N, O)``.
        inverse_norm: DoRA's ``1 / n``, ``(O,)`` float32.
    """

    lora_a: Tensor | None
    low_rank: Tensor | None
    lora_b: list[Tensor | None]
    unscaled: list[Tensor | None]
    inverse_norm: list[Tensor | None]

    def tensors(self) -> list[Tensor | None]:
        """Everything in one list, as ``save_for_backward`` takes it."""
        return [self.lora_a, self.low_rank, *self.lora_b, *self.unscaled, *self.inverse_norm]

    @classmethod
    def of_tensors(cls, tensors: Sequence[Tensor | None]) -> Kept:
        """The inverse of `tensors`."""
        first, rest = tensors[:2], list(tensors[2:])
        count = len(rest) // 3
        return cls(first[0], first[1], rest[:count], rest[count : 2 * count], rest[2 * count :])


def products(shared: SharedLayers, rows: Tensor, adapter_rows: Tensor | None = None) -> tuple[list[Tensor], Kept]:
    """Outputs of all layers, ``(N, O_i)``, and what the backward pass needs.

    Args:
        shared: the layers.
        rows: ``(N, I)``.
        adapter_rows: what the adapters see instead of ``rows`` (after dropout).
    """
    dtype = rows.dtype
    # Copies are made anew each time: torch's fused AdamW changes weights without raising their version counter, so nothing tells an old
    # copy from a new one, and 5M weights are cast in the time of a few tokens.
    lora_a = torch.cat([adapter.lora_a for adapter in shared.adapters]).to(dtype) if shared.adapters else None
    low_rank = None if lora_a is None else (rows if adapter_rows is None else adapter_rows) @ lora_a.t()
    kept = Kept(lora_a, low_rank, [], [], [])
    outputs = []
    for layer, columns in zip(shared.layers, shared.columns, strict=True):
        weight, bias, adapter = layer.weight(dtype), layer.bias(dtype), layer.adapter
        if adapter is None or low_rank is None:
            outputs.append(nn.functional.linear(rows, weight, bias))
            b = inverse_norm = None
        elif adapter.magnitude is None:
            b, inverse_norm = adapter.lora_b.to(dtype), None
            outputs.append(nn.functional.linear(rows, weight, bias).addmm_(low_rank[:, columns], b.t(), alpha=adapter.scaling))
        else:
            b, inverse_norm = adapter.lora_b.to(dtype), _row_norm(weight, adapter).reciprocal_()
            unscaled = (rows @ weight.t()).addmm_(low_rank[:, columns], b.t(), alpha=adapter.scaling)
            output = _rescaled(unscaled, adapter.magnitude * inverse_norm)
            outputs.append(output if bias is None else output.add_(bias))
        kept.lora_b.append(b)
        kept.inverse_norm.append(inverse_norm)
        kept.unscaled.append(None if inverse_norm is None else unscaled)
    return outputs, kept


def product_gradients(
    shared: SharedLayers,
    rows: Tensor,
    kept: Kept,
    grads: Sequence[Tensor],
    *,
    needs_rows: bool,
    adapter_rows: Tensor | None = None,
) -> tuple[Tensor | None, Tensor | None, list[Tensor]]:
    """Gradients of `products`: of ``rows``, of ``adapter_rows``, and of the master weights as ``shared.parameters()`` lists them.

    Without ``adapter_rows`` the first holds what comes through the adapters too.
    """
    grads, d_magnitudes = _through_magnitudes(shared, kept, grads)
    d_low_rank, d_lora_b = _through_lora_b(shared, kept, grads)
    d_parameters: list[Tensor] = []
    if d_low_rank is not None:
        d_lora_a = (d_low_rank.t() @ (rows if adapter_rows is None else adapter_rows)).float()
        parts = torch.split(d_lora_a, [adapter.lora_a.shape[0] for adapter in shared.adapters])
        for d_a, d_b, d_m in zip(parts, d_lora_b, d_magnitudes, strict=True):
            d_parameters += [d_a, d_b] if d_m is None else [d_a, d_b, d_m]
    d_rows = None
    if needs_rows:
        for layer, grad in zip(shared.layers, grads, strict=True):
            weight = layer.weight(rows.dtype)
            d_rows = grad @ weight if d_rows is None else d_rows.addmm_(grad, weight)
    if d_low_rank is None or kept.lora_a is None:
        return d_rows, None, d_parameters
    if adapter_rows is not None:
        return d_rows, d_low_rank @ kept.lora_a, d_parameters
    return None if d_rows is None else d_rows.addmm_(d_low_rank, kept.lora_a), None, d_parameters


def _through_magnitudes(shared: SharedLayers, kept: Kept, grads: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor | None]]:
    """Gradients before DoRA's factors, and of the magnitudes of the adapters, None for LoRA."""
    inner, d_magnitudes = [], []
    for layer, unscaled, inverse_norm, grad in zip(shared.layers, kept.unscaled, kept.inverse_norm, grads, strict=True):
        adapter, d_magnitude = layer.adapter, None
        if adapter is not None and adapter.magnitude is not None and unscaled is not None and inverse_norm is not None:
            d_magnitude = (grad * unscaled).sum(dim=0, dtype=torch.float32).mul_(inverse_norm)
            grad = _rescaled(grad, adapter.magnitude * inverse_norm)
        inner.append(grad)
        if adapter is not None:
            d_magnitudes.append(d_magnitude)
    return inner, d_magnitudes


def _through_lora_b(shared: SharedLayers, kept: Kept, grads: Sequence[Tensor]) -> tuple[Tensor | None, list[Tensor]]:
    """Gradients of ``h`` and, float32, of every ``B``."""
    low_rank = kept.low_rank
    if low_rank is None:
        return None, []
    d_low_rank, d_lora_b = torch.empty_like(low_rank), []
    for layer, columns, b, grad in zip(shared.layers, shared.columns, kept.lora_b, grads, strict=True):
        if b is not None and layer.adapter is not None:
            d_low_rank[:, columns] = (grad @ b).mul_(layer.adapter.scaling)
            d_lora_b.append((grad.t() @ low_rank[:, columns]).float().mul_(layer.adapter.scaling))
    return d_low_rank, d_lora_b


def _rescaled(values: Tensor, factor: Tensor) -> Tensor:
    """``values * factor`` ``(N, O)``, ``(O,)``: as a change, because a factor near 1 has no place for its digits in bfloat16."""
    return torch.addcmul(values, values, (factor - 1).to(values.dtype))


def _row_norm(weight: Tensor, adapter: Adapter) -> Tensor:
    """``||W + s B A||`` by row, ``(O,)`` float32."""
    a, b, scaling = adapter.lora_a, adapter.lora_b, adapter.scaling
    square: Tensor = torch.linalg.vector_norm(weight, dim=1, dtype=torch.float32).square_()
    mixed = ((weight @ a.to(weight.dtype).t()) * b).sum(dim=1)
    low_rank = ((b @ (a @ a.t())) * b).sum(dim=1)
    square = square.add_(mixed, alpha=2 * scaling).add_(low_rank, alpha=scaling**2)
    return square.clamp_min_(torch.finfo(torch.float32).tiny).sqrt_()
