"""Causal attention for many short rows: a handful of batched products, no copies of key and value heads, few passes.

N tokens of a packed batch; of one of its groups: B rows, T tokens of a row, P tokens of the prefix that all rows share, S = P + T keys.
H query heads, K key-value heads, G = H / K; E head size.

The scores are kept transposed, ``(B*K, S, G*T)``: a softmax over a middle dimension runs along the long last one, while the usual softmax
over 30 keys spends its time on the ends of its rows. The query heads of one key head lie side by side in the
last dimension, so keys and values are never repeated. Mask and scaling are part of the product (``baddbmm``).
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from tunesmith.train.fast.packing import RowGroup, TokenLayout


def short_attention(
    query: Tensor, key: Tensor, value: Tensor, layout: TokenLayout, *, scaling: float, softcap: float | None = None
) -> Tensor:
    """Softmax attention of every row to the prefix and, causally, to itself (Vaswani et al., 2017, section 3.2.1).

    Args:
        query: ``(N, H, E)``, any strides.
        key: ``(N, K, E)``.
        value: ``(N, K, E)``.
        layout: which tokens are the prefix, and which the rows.
        scaling: factor on the scores.
        softcap: ``softcap * tanh(score / softcap)`` before the mask, when given (Gemma 2).

    Returns: ``(N, H, E)``, contiguous.
    """
    device = query.device.type
    if torch.is_autocast_enabled(device):
        query, key, value = (states.to(torch.get_autocast_dtype(device)) for states in (query, key, value))
    with torch.autocast(device, enabled=False):  # it would round the scores, and the backward pass knows nothing of it
        return cast(Tensor, _ShortAttention.apply(query, key, value, layout, float(scaling), softcap))  # type: ignore[no-untyped-call]


class _Saved(NamedTuple):
    """What the backward pass of one group needs."""

    query: Tensor  # (B*K, G*T, E)
    keys: Tensor  # (B*K, S, E)
    values: Tensor  # (B*K, S, E)
    weights: Tensor  # (B*K, S, G*T)
    capped: Tensor | None  # (B*K, S, G*T), the scores' tanh


class _ShortAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, layout: TokenLayout, scaling: float, softcap: float | None) -> Tensor:
        output = query.new_empty(query.shape)
        output[layout.num_placed :] = 0.0  # whatever stands in the tail would spread as NaN through the gradients of weights
        saved: list[Tensor | None] = []
        for group, prefix in _groups(layout):
            part, kept = _attend(query, key, value, group, prefix, scaling, softcap)
            _tokens_of(output, group, key.shape[1]).copy_(part)
            saved += kept
        ctx.save_for_backward(*saved)
        ctx.layout, ctx.scaling, ctx.num_key_heads = layout, scaling, key.shape[1]
        return output

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        num_tokens, _, size = grad.shape
        layout: TokenLayout = ctx.layout
        d_query = grad.new_empty(grad.shape)
        d_key, d_value = grad.new_empty(2, num_tokens, ctx.num_key_heads, size)
        for gradient in (d_query, d_key, d_value):
            gradient[layout.num_placed :] = 0.0
        # The prefix is the first group and comes last here, when all rows have added to the gradients of its keys and values.
        shared = [grad.new_zeros(layout.prefix_length, ctx.num_key_heads, size, dtype=torch.float32) for _ in range(2)]
        tensors = ctx.saved_tensors  # asked for once: gradient checkpointing allows no more
        saved = [_Saved(*tensors[i : i + 5]) for i in range(0, len(tensors), 5)]
        for (group, prefix), kept in reversed(list(zip(_groups(layout), saved, strict=True))):
            d_part, d_keys, d_values = _attend_backward(grad, group, kept, ctx.scaling, ctx.num_key_heads)
            _tokens_of(d_query, group, ctx.num_key_heads).copy_(d_part)
            for target, gradient, total in ((d_key, d_keys, shared[0]), (d_value, d_values, shared[1])):
                own = target[group.start : group.stop].view(group.num_rows, group.length, *target.shape[1:])
                own.copy_(gradient[:, :, prefix:].transpose(1, 2))
                if prefix:
                    total += gradient[:, :, :prefix].sum(dim=0, dtype=torch.float32).transpose(0, 1)
        if layout.prefix_length:
            d_key[: layout.prefix_length] += shared[0]
            d_value[: layout.prefix_length] += shared[1]
        return d_query, d_key, d_value, None, None, None


def _groups(layout: TokenLayout) -> list[tuple[RowGroup, int]]:
    """Every group with the length of the prefix that it sees; the prefix itself is a group of one row that sees none."""
    prefix = layout.prefix_length
    own = [(RowGroup(0, 1, prefix), 0)] if prefix else []
    return own + [(group, prefix) for group in layout.groups]


def _tokens_of(tokens: Tensor, group: RowGroup, num_key_heads: int) -> Tensor:
    """The group's part of ``(N, H, E)`` as a view ``(B, K, G, T, E)``."""
    part = tokens[group.start : group.stop]
    return part.reshape(group.num_rows, group.length, num_key_heads, -1, part.shape[-1]).permute(0, 2, 3, 1, 4)


def _attend(
    query: Tensor, key: Tensor, value: Tensor, group: RowGroup, prefix: int, scaling: float, softcap: float | None
) -> tuple[Tensor, _Saved]:
    """One group's output, ``(B, K, G, T, E)``, and what its backward pass needs."""
    num_key_heads, size = key.shape[1:]
    view = _tokens_of(query, group, num_key_heads)
    rows = view.reshape(group.num_rows * num_key_heads, -1, size)  # (B*K, G*T, E)
    keys, values = _with_prefix(key, group, prefix), _with_prefix(value, group, prefix)
    mask = _mask(keys.shape[1], group.length, view.shape[2], query.dtype, query.device)
    # Scores in float32: rounded to bfloat16, one of 20 would be off by 0.06, which is 6% of its weight.
    wide = mask.dtype
    if softcap is None:
        capped, scores = None, torch.baddbmm(mask, keys.to(wide), rows.to(wide).transpose(1, 2), alpha=scaling)  # (B*K, S, G*T)
    else:
        capped = torch.bmm(keys.to(wide), rows.to(wide).transpose(1, 2)).mul_(scaling / softcap).tanh_()
        scores = torch.add(mask, capped, alpha=softcap)
    weights = torch.softmax(scores, dim=1).to(query.dtype)
    output = torch.bmm(weights.transpose(1, 2), values)  # (B*K, G*T, E)
    return output.view(view.shape), _Saved(rows, keys, values, weights, capped)


def _attend_backward(grad: Tensor, group: RowGroup, saved: _Saved, scaling: float, num_key_heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of one group: of its queries ``(B, K, G, T, E)``, of its keys and its values ``(B, K, S, E)``."""
    view = _tokens_of(grad, group, num_key_heads)
    d_output = view.reshape(saved.query.shape)  # (B*K, G*T, E)
    d_values = torch.bmm(saved.weights, d_output)  # (B*K, S, E)
    d_weights = torch.bmm(saved.values, d_output.transpose(1, 2))  # (B*K, S, G*T)
    d_scores = torch._softmax_backward_data(d_weights, saved.weights, 1, d_weights.dtype).mul_(scaling)
    if saved.capped is not None:
        d_scores.mul_(saved.capped.square().neg_().add_(1.0))
    d_keys = torch.bmm(d_scores, saved.query)
    d_query = torch.bmm(d_scores.transpose(1, 2), saved.keys)
    shape = (group.num_rows, num_key_heads, *d_keys.shape[1:])
    return d_query.view(view.shape), d_keys.view(shape), d_values.view(shape)


def _with_prefix(tokens: Tensor, group: RowGroup, prefix: int) -> Tensor:
    """Keys or values ``(N, K, E)`` as a group sees them, ``(B*K, P+T, E)``."""
    num_key_heads, size = tokens.shape[1:]
    result = tokens.new_empty(group.num_rows, num_key_heads, prefix + group.length, size)
    result[:, :, :prefix] = tokens[:prefix].transpose(0, 1)
    own = tokens[group.start : group.stop].reshape(group.num_rows, group.length, num_key_heads, size)
    result[:, :, prefix:] = own.transpose(1, 2)
    return result.flatten(0, 1)


@functools.lru_cache(maxsize=64)
def _mask(num_keys: int, length: int, group_size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """``(1, S, G*T)`` in float32 or wider: 0 where the query may look, -inf where the key lies after it."""
    key_position = torch.arange(num_keys, device=device)[:, None] - (num_keys - length)
    query_position = torch.arange(length, device=device).repeat(group_size)[None]
    hidden = key_position > query_position
    wide = torch.promote_types(dtype, torch.float32)
    return torch.zeros(hidden.shape, dtype=wide, device=device).masked_fill_(hidden, float("-inf"))[None]
