"""Products of one input with frozen weights and low-rank adapters, forward and backward, as few matrix products as there can be.

N tokens, I inputs, O outputs, R rank (of all adapters on one input together), s scaling.

    y_i = x W_i^T + b_i + s_i (x A_i^T) B_i^T           (Hu et al., 2022, "LoRA", section 4.1)

Layers that read the same input share it: one product ``x A^T`` for all their adapters, one sum of input gradients accumulated inside the
products, and only ``x`` and the small ``h = x A^T`` are kept for the backward pass. Adapters are trained in float32; products are taken with
copies in the dtype of the input, made once per optimizer step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tunesmith.methods.grid_linear import frozen_weight


@dataclass(frozen=True)
class Adapter:
    """Low-rank adapter: ``lora_a`` ``(R, I)``, ``lora_b`` ``(O, R)``, and the factor ``s`` on their product."""

    lora_a: nn.Parameter
    lora_b: nn.Parameter
    scaling: float


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
            weight = self.base.weight.t()
        return weight

    @property
    def bias(self) -> Tensor | None:
        """``(O,)`` or None."""
        bias: Tensor | None = self.base.bias  # type: ignore[assignment]
        return bias


class AdapterCopies:
    """The adapters of layers with a common input in the dtype of the products."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        self.layers = tuple(layers)
        self.adapters = tuple(layer.adapter for layer in layers if layer.adapter is not None)
        ranks = [layer.adapter.lora_a.shape[0] if layer.adapter else 0 for layer in layers]
        stops = [sum(ranks[: i + 1]) for i in range(len(ranks))]
        #: The columns of ``h`` that belong to each layer.
        self.columns = [slice(stop - rank, stop) for stop, rank in zip(stops, ranks, strict=True)]
        self.rank = sum(ranks)

    def parameters(self) -> list[nn.Parameter]:
        """Master weights in the order in which gradients are returned: ``A, B`` of each adapted layer."""
        return [parameter for adapter in self.adapters for parameter in (adapter.lora_a, adapter.lora_b)]

    @torch.no_grad()
    def get(self, dtype: torch.dtype) -> tuple[Tensor | None, list[Tensor | None]]:
        """All ``A`` on top of each other, ``(R, I)``, and ``B`` of each layer, ``(O, R_i)``."""
        # Made anew each time and never kept: torch's fused AdamW changes weights without raising their version counter, so nothing
        # tells an old copy from a new one, and 5M weights are cast in the time of a few tokens.
        lora_a = torch.cat([a.lora_a for a in self.adapters]).to(dtype) if self.adapters else None
        return lora_a, [None if layer.adapter is None else layer.adapter.lora_b.detach().to(dtype) for layer in self.layers]


def products(copies: AdapterCopies, rows: Tensor, adapter_rows: Tensor | None = None) -> tuple[list[Tensor], Tensor | None]:
    """Outputs of all layers, ``(N, O_i)``, and ``h`` ``(N, R)`` for the backward pass.

    Args:
        copies: the layers.
        rows: ``(N, I)``.
        adapter_rows: what the adapters see instead of ``rows`` (after dropout).
    """
    lora_a, lora_b = copies.get(rows.dtype)
    low_rank = None if lora_a is None else (rows if adapter_rows is None else adapter_rows) @ lora_a.t()
    outputs = []
    for layer, columns, b in zip(copies.layers, copies.columns, lora_b, strict=True):
        bias = layer.bias
        output = nn.functional.linear(rows, layer.weight(rows.dtype), None if bias is None else bias.to(rows.dtype))
        if b is not None and low_rank is not None and layer.adapter is not None:
            output.addmm_(low_rank[:, columns], b.t(), alpha=layer.adapter.scaling)
        outputs.append(output)
    return outputs, low_rank


def product_gradients(
    copies: AdapterCopies,
    rows: Tensor,
    low_rank: Tensor | None,
    grads: Sequence[Tensor],
    *,
    needs_rows: bool,
    adapter_rows: Tensor | None = None,
) -> tuple[Tensor | None, Tensor | None, list[Tensor]]:
    """Gradients of ``products``: of ``rows``, of ``adapter_rows``, and of the master weights as ``copies.parameters()`` lists them.

    Without ``adapter_rows`` both share of the input gradient are in the first.
    """
    lora_a, lora_b = copies.get(rows.dtype)
    d_low_rank = None if low_rank is None else torch.empty_like(low_rank)
    d_parameters: list[Tensor] = []
    d_lora_b = []
    for layer, columns, b, grad in zip(copies.layers, copies.columns, lora_b, grads, strict=True):
        if b is None or low_rank is None or d_low_rank is None or layer.adapter is None:
            continue
        d_low_rank[:, columns] = (grad @ b).mul_(layer.adapter.scaling)
        d_lora_b.append((grad.t() @ low_rank[:, columns]).float().mul_(layer.adapter.scaling))
    if d_low_rank is not None:
        d_lora_a = (d_low_rank.t() @ (rows if adapter_rows is None else adapter_rows)).float()
        ranks = [adapter.lora_a.shape[0] for adapter in copies.adapters]
        for part, d_b in zip(d_lora_a.split(ranks), d_lora_b, strict=True):
            d_parameters += [part, d_b]
    d_adapter_rows = d_low_rank @ lora_a if adapter_rows is not None and d_low_rank is not None and lora_a is not None else None
    d_rows = None
    if needs_rows:
        for layer, grad in zip(copies.layers, grads, strict=True):
            weight = layer.weight(rows.dtype)
            d_rows = grad @ weight if d_rows is None else d_rows.addmm_(grad, weight)
        if d_low_rank is not None and lora_a is not None and adapter_rows is None and d_rows is not None:
            d_rows.addmm_(d_low_rank, lora_a)
    return d_rows, d_adapter_rows, d_parameters
