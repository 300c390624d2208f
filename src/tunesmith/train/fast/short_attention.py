"""Causal attention for many short rows: a handful of batched products, no copies of key and value heads, no float32 passes.

B rows, T tokens of a row, P tokens of a prefix that all rows share, S = P + T keys; H query heads, K key-value heads, G = H / K; E head size.

The scores are kept transposed, ``(B*K, S, G*T)``: a softmax over a middle dimension runs over long vectors of the last one, while the usual
softmax over 30 keys spends its time on the ends of its rows (8 times as long, in bfloat16). The query heads of one key head lie side by side
in the last dimension, so keys and values are never repeated. Mask and scaling are part of the product (``baddbmm``).
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor


def short_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    num_rows: int,
    scaling: float,
    prefix_key: Tensor | None = None,
    prefix_value: Tensor | None = None,
    softcap: float | None = None,
) -> Tensor:
    """Softmax attention of every row to the prefix and, causally, to itself (Vaswani et al., 2017, section 3.2.1).

    Args:
        query: ``(1, H, B*T, E)``, rows one after the other; any strides.
        key: ``(1, K, B*T, E)``.
        value: ``(1, K, B*T, E)``.
        num_rows: B.
        scaling: factor on the scores.
        prefix_key: ``(1, K, P, E)``, shared by all rows.
        prefix_value: ``(1, K, P, E)``.
        softcap: ``softcap * tanh(score / softcap)`` before the mask, when given (Gemma 2).

    Returns: ``(1, B*T, H, E)``.
    """
    output: Tensor = _ShortAttention.apply(query, key, value, prefix_key, prefix_value, num_rows, float(scaling), softcap)
    return output


class _ShortAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        prefix_key: Tensor | None,
        prefix_value: Tensor | None,
        num_rows: int,
        scaling: float,
        softcap: float | None,
    ) -> Tensor:
        num_heads, num_key_heads = query.shape[1], key.shape[1]
        grouped = _group_queries(query, num_rows, num_key_heads)  # (B*K, G*T, E)
        keys, values = _with_prefix(key, prefix_key, num_rows), _with_prefix(value, prefix_value, num_rows)  # (B*K, S, E)
        mask = _mask(keys.shape[1], query.shape[2] // num_rows, num_heads // num_key_heads, query.dtype, query.device)
        if softcap is None:
            capped = None
            scores = torch.baddbmm(mask, keys, grouped.transpose(1, 2), alpha=scaling)  # (B*K, S, G*T)
        else:
            capped = torch.bmm(keys, grouped.transpose(1, 2)).mul_(scaling / softcap).tanh_()
            scores = torch.add(mask, capped, alpha=softcap)
        weights = torch.softmax(scores, dim=1)
        output = torch.bmm(weights.transpose(1, 2), values)  # (B*K, G*T, E)
        ctx.save_for_backward(grouped, keys, values, weights, capped)
        ctx.sizes = (num_rows, num_heads, num_key_heads, scaling, 0 if prefix_key is None else prefix_key.shape[2])
        return _to_tokens(output, num_rows, num_heads)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        grouped, keys, values, weights, capped = ctx.saved_tensors
        num_rows, num_heads, num_key_heads, scaling, prefix = ctx.sizes
        d_output = _group_queries(grad.transpose(1, 2), num_rows, num_key_heads)  # (B*K, G*T, E)
        d_values = torch.bmm(weights, d_output)  # (B*K, S, E)
        d_weights = torch.bmm(values, d_output.transpose(1, 2))  # (B*K, S, G*T)
        d_scores = torch._softmax_backward_data(d_weights, weights, 1, weights.dtype)
        if capped is not None:
            d_scores = d_scores.mul_(1 - capped.square())
        d_keys = torch.bmm(d_scores, grouped).mul_(scaling)
        d_query = torch.bmm(d_scores.transpose(1, 2), keys).mul_(scaling)
        d_key, d_prefix_key = _split_prefix(d_keys, num_rows, prefix)
        d_value, d_prefix_value = _split_prefix(d_values, num_rows, prefix)
        return _to_tokens(d_query, num_rows, num_heads).transpose(1, 2), d_key, d_value, d_prefix_key, d_prefix_value, None, None, None


def _group_queries(query: Tensor, num_rows: int, num_key_heads: int) -> Tensor:
    """``(1, H, B*T, E)`` to ``(B*K, G*T, E)``."""
    _, num_heads, num_tokens, size = query.shape
    parts = query.reshape(num_key_heads, num_heads // num_key_heads, num_rows, num_tokens // num_rows, size)
    return parts.permute(2, 0, 1, 3, 4).reshape(num_rows * num_key_heads, -1, size)


def _to_tokens(grouped: Tensor, num_rows: int, num_heads: int) -> Tensor:
    """``(B*K, G*T, E)`` to ``(1, B*T, H, E)``."""
    size = grouped.shape[-1]
    per_head = grouped.reshape(num_rows, num_heads, -1, size)  # (B, H, T, E): the heads of a key head are neighbours
    return per_head.transpose(1, 2).reshape(1, -1, num_heads, size)


def _with_prefix(rows: Tensor, prefix: Tensor | None, num_rows: int) -> Tensor:
    """``(1, K, B*T, E)`` and ``(1, K, P, E)`` to ``(B*K, P+T, E)``."""
    _, num_key_heads, _, size = rows.shape
    own = rows.reshape(num_key_heads, num_rows, -1, size).transpose(0, 1)  # (B, K, T, E)
    if prefix is not None:
        own = torch.cat((prefix.expand(num_rows, -1, -1, -1), own), dim=2)
    return own.reshape(num_rows * num_key_heads, -1, size)


def _split_prefix(gradient: Tensor, num_rows: int, prefix: int) -> tuple[Tensor, Tensor | None]:
    """``(B*K, P+T, E)`` to ``(1, K, B*T, E)`` and ``(1, K, P, E)``, the sum over the rows."""
    per_row = gradient.unflatten(0, (num_rows, -1))  # (B, K, S, E)
    own = per_row[:, :, prefix:].transpose(1, 2).reshape(1, -1, per_row.shape[1], per_row.shape[3]).transpose(1, 2)
    return own, per_row[:, :, :prefix].sum(dim=0, keepdim=True, dtype=torch.float32).to(own.dtype) if prefix else None


@functools.lru_cache(maxsize=64)
def _mask(num_keys: int, length: int, group_size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """``(1, S, G*T)``: 0 where the query may look, -inf where the key lies after it."""
    key_position = torch.arange(num_keys, device=device)[:, None] - (num_keys - length)
    query_position = torch.arange(length, device=device).repeat(group_size)[None]
    hidden = key_position > query_position
    return torch.zeros(hidden.shape, dtype=dtype, device=device).masked_fill_(hidden, float("-inf"))[None]
