"""Frozen layers whose weights stay packed on the grid that ships: dequantized block by block, forward, and again in the backward pass.

Legend as in :mod:`tunesmith.methods.grid`: O outputs, I inputs, B blocks of 32 inputs; N rows (tokens) of the input.

A weight takes 0.625 bytes (4 bits, and a float32 scale for every 32; of 8 bits 1.125), in bfloat16 2. Nothing else of that size lives
between forward and backward: autograd is handed the packed weight only. On one core (avx512_bf16) with 900 rows dequantizing costs 5 to
8% of the product that follows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from tunesmith.methods.grid import chunks, dequantize, quantize

Quantize = Callable[[Tensor], tuple[Tensor, Tensor]]
#: Weights multiplied at once. Whole layers of blocks are below it; an output embedding (49152 x 576: 57 MB in bfloat16) goes in parts.
_PRODUCT_WEIGHTS = 1 << 21


class GridLinear(nn.Linear):
    """A frozen linear layer on a grid, in the place of an ``nn.Linear`` or of GPT-2's ``Conv1D``.

    It is an ``nn.Linear`` to everything that looks for linear layers (peft among them), but ``weight`` holds packed codes, so that code
    which would change the weight in place fails instead of going astray; :meth:`dequantize` gives the values.

    Attributes:
        weight: ``(O, B, 16)`` uint8, of 8 bits ``(O, B, 32)``; never trained.
        bias: ``(O,)`` or ``None``, in the model's own precision.
        transposed: whether the replaced layer stored its weight as ``(I, O)``, as ``Conv1D`` does.
    """

    scale_bits: Tensor

    def __init__(self, layer: nn.Linear | Conv1D | nn.Embedding, quantize: Quantize = quantize) -> None:
        """Take the place of a layer.

        Args:
            layer: whose weight is put on the grid; of an embedding, its table.
            quantize: which grid: one of ONNX or, from :mod:`tunesmith.methods.grid_q4_0`, of GGUF.
        """
        transposed = isinstance(layer, Conv1D)
        weight = layer.weight.t() if transposed else layer.weight
        super().__init__(weight.shape[1], weight.shape[0], bias=False, device="meta")
        packed, scales = quantize(weight)
        self.transposed = transposed
        self.weight = nn.Parameter(packed, requires_grad=False)
        # As bits: Module.to(bfloat16) would round a buffer of floats, and with it the whole grid.
        self.register_buffer("scale_bits", scales.view(torch.int32))
        if not isinstance(layer, nn.Embedding) and layer.bias is not None:
            self.bias = nn.Parameter(layer.bias.detach(), requires_grad=False)

    @property
    def scales(self) -> Tensor:
        """``(O, B)`` float32."""
        return self.scale_bits.view(torch.float32)

    def dequantize(self, dtype: torch.dtype) -> Tensor:
        """Return the values as ``(O, I)`` in ``dtype``; float32 is what ships, anything shorter is that, rounded once."""
        return dequantize(self.weight, self.scales, self.in_features, dtype)

    def forward(self, inputs: Tensor) -> Tensor:
        """``(..., I)`` -> ``(..., O)``, computed in the dtype of ``inputs`` (under autocast: in its dtype)."""
        device = inputs.device.type
        if torch.is_autocast_enabled(device):
            inputs = inputs.to(torch.get_autocast_dtype(device))
        outputs = cast(Tensor, _FrozenProduct.apply(inputs, self.weight, self.scale_bits))  # type: ignore[no-untyped-call]
        return outputs if self.bias is None else outputs + self.bias.to(outputs.dtype)


class GridEmbedding(nn.Embedding):
    """An input embedding that shares the packed weight of a tied output layer: what ships reads its rows from there.

    Attributes:
        weight: the output layer's parameter, ``(V, B, 16)`` or ``(V, B, 32)`` uint8.
        embed_scale: factor on the rows, where the replaced embedding has one (Gemma 3).
    """

    scale_bits: Tensor
    dtype_of_rows: Tensor

    def __init__(self, embedding: nn.Embedding, head: GridLinear, dtype: torch.dtype) -> None:
        super().__init__(embedding.num_embeddings, embedding.embedding_dim, padding_idx=embedding.padding_idx, device="meta")
        self.weight = head.weight
        self.register_buffer("scale_bits", head.scale_bits)
        # An empty buffer knows the dtype of the model it is in: Module.to(dtype) changes it, which token ids couldn't tell.
        self.register_buffer("dtype_of_rows", torch.empty(0, dtype=dtype, device=head.weight.device), persistent=False)
        self.embed_scale = getattr(embedding, "embed_scale", None)

    def dequantize(self, dtype: torch.dtype) -> Tensor:
        """Return the whole table as ``(V, D)`` in ``dtype``, without ``embed_scale``."""
        return dequantize(self.weight, self.scale_bits.view(torch.float32), self.embedding_dim, dtype)

    def forward(self, input_ids: Tensor) -> Tensor:
        """``(...)`` -> ``(..., D)``; only the rows asked for are dequantized."""
        ids, dtype = input_ids.flatten(), self.dtype_of_rows.dtype
        rows = dequantize(self.weight[ids], self.scale_bits[ids].view(torch.float32), self.embedding_dim, dtype)
        rows = rows.reshape(*input_ids.shape, self.embedding_dim)
        if self.embed_scale is None:
            return rows
        return rows * (self.embed_scale.to(dtype) if isinstance(self.embed_scale, Tensor) else self.embed_scale)


def frozen_weight(layer: nn.Module, dtype: torch.dtype) -> Tensor | None:
    """Return the weight ``(O, I)`` of a frozen linear layer in ``dtype``, or ``None`` for a kind of layer that isn't known here.

    For a :class:`GridLinear` it is made anew at every call: ask again in the backward pass instead of saving it.
    """
    if isinstance(layer, GridLinear):
        return layer.dequantize(dtype)
    return layer.weight.to(dtype) if type(layer) is nn.Linear else None


class _FrozenProduct(torch.autograd.Function):
    """``inputs @ W.T`` with a gradient for ``inputs`` only; ``W`` is dequantized in either direction and never kept."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, packed: Tensor, scale_bits: Tensor) -> Tensor:
        """``(..., I)`` -> ``(..., O)``."""
        ctx.save_for_backward(packed, scale_bits)
        ctx.num_inputs = inputs.shape[-1]
        rows = inputs.reshape(-1, inputs.shape[-1])  # (N, I)
        parts = _weight_parts(packed, scale_bits, rows.shape[1], rows.dtype)
        if len(packed) * rows.shape[1] <= _PRODUCT_WEIGHTS:
            return nn.functional.linear(inputs, next(parts)[1])
        outputs = rows.new_empty(len(rows), len(packed))  # (N, O)
        for part, weight in parts:
            torch.mm(rows, weight.t(), out=outputs[:, part])
        return outputs.view(*inputs.shape[:-1], len(packed))

    @staticmethod
    def backward(ctx: Any, grad_outputs: Tensor) -> tuple[Tensor, None, None]:
        """``(..., O)`` -> ``(..., I)``."""
        packed, scale_bits = ctx.saved_tensors
        rows = grad_outputs.reshape(-1, grad_outputs.shape[-1])  # (N, O)
        parts = _weight_parts(packed, scale_bits, ctx.num_inputs, rows.dtype)
        first, weight = next(parts)
        total = torch.mm(rows[:, first], weight)  # (N, I)
        for part, weight in parts:
            total = total.float() + torch.mm(rows[:, part], weight)  # a sum of many parts in bfloat16 would lose a digit
        return total.to(rows.dtype).view(*grad_outputs.shape[:-1], ctx.num_inputs), None, None


def _weight_parts(packed: Tensor, scale_bits: Tensor, num_inputs: int, dtype: torch.dtype) -> Iterator[tuple[slice, Tensor]]:
    """Dequantize a few thousand outputs at a time: slices of them and their weights ``(outputs, I)``."""
    for part in chunks(len(packed), num_inputs, _PRODUCT_WEIGHTS):
        yield part, dequantize(packed[part], scale_bits[part].view(torch.float32), num_inputs, dtype)
