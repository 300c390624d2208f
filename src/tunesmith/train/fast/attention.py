"""Attention as an interface of transformers: packed batches, and the kernel that is fast for a row length, device and dtype.

A model whose configuration names `INTERFACE` calls `attend` in every layer, with whatever its family needs (other scalings, score caps).
What it doesn't know (masks, caches, dropout, sliding windows within a row) goes to transformers' own SDPA function.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from tunesmith.train.fast.packing import RowGroup, TokenLayout
from tunesmith.train.fast.short_attention import short_attention

INTERFACE = "tunesmith"
#: Rows up to this many tokens are faster with products over all scores than with the flash kernel, on a CPU (benchmarks/tricks.py).
SHORT_ROW_TOKENS = 256


#: What families pass to their attention that changes the scores and is left to transformers' own function.
_CHANGES_SCORES = ("position_bias", "s_aux", "cache")


@contextmanager
def attention_kernel(length: int, device: torch.device | str) -> Iterator[None]:
    """For models that keep transformers' own SDPA function: the math kernel for short rows on a CPU, where the backward pass of the flash
    kernel costs more than all else; anything but a CPU is left alone."""
    if torch.device(device).type != "cpu" or length > SHORT_ROW_TOKENS:
        yield
        return
    with sdpa_kernel(SDPBackend.MATH):
        yield


def register_interface() -> None:
    """Make `INTERFACE` known to transformers; harmless to call twice."""
    AttentionInterface.register(INTERFACE, attend)
    AttentionMaskInterface.register(INTERFACE, sdpa_mask)


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    dropout: float = 0.0,
    scaling: float | None = None,
    softcap: float | None = None,
    token_layout: TokenLayout | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention with the signature that transformers' models call.

    Args:
        module: the attention layer.
        query: ``(B, H, T, E)``.
        key: ``(B, K, S, E)``.
        value: ``(B, K, S, E)``.
        attention_mask: ``(B, 1, T, S)`` or None for a causal one; not looked at when there is a ``token_layout``.
        dropout: on the attention weights.
        scaling: factor on the scores, ``E ** -0.5`` when None.
        softcap: cap of the scores (Gemma 2).
        token_layout: what the tokens of a packed batch are; then B is 1 and T is N.

    Returns: ``(B, T, H, E)``, and None in the place of the attention weights.
    """
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    num_rows, _, length, _ = query.shape
    if token_layout is not None:
        tokens = [states[0].transpose(0, 1) for states in (query, key, value)]
        output = attend_packed(tokens[0], tokens[1], tokens[2], token_layout, scaling=scaling, softcap=softcap, dropout=dropout)
        return output[None], None
    is_causal = kwargs.get("is_causal")
    is_causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    plain = attention_mask is None and is_causal and not dropout and not any(kwargs.get(name) is not None for name in _CHANGES_SCORES)
    if plain and 1 < length == key.shape[2] and _is_short(query, length):
        tokens = [states.transpose(1, 2).flatten(0, 1) for states in (query, key, value)]
        layout = TokenLayout(0, (RowGroup(0, num_rows, length),))
        output = short_attention(tokens[0], tokens[1], tokens[2], layout, scaling=scaling, softcap=softcap)  # (B*T, H, E), no tail
        return output.reshape(num_rows, length, *output.shape[1:]), None
    if softcap is not None:
        return _capped_attention(query, key, value, attention_mask, scaling, softcap, dropout, bool(is_causal)), None
    output, _ = sdpa_attention_forward(module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs)
    return cast(Tensor, output), None


def _capped_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float, softcap: float, dropout: float, is_causal: bool
) -> Tensor:
    """Plain attention with capped scores, which no fused kernel knows: ``(B, H, T, E)`` to ``(B, T, H, E)``."""
    repeats = query.shape[1] // key.shape[1]
    keys, values = (states.repeat_interleave(repeats, dim=1) for states in (key, value))
    scores = softcap * torch.tanh(query @ keys.transpose(2, 3) * (scaling / softcap))
    length, num_keys = scores.shape[2:]
    if mask is None and is_causal:
        mask = torch.ones(length, num_keys, dtype=torch.bool, device=query.device).tril_(num_keys - length)
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min) if mask.dtype == torch.bool else scores + mask
    weights = nn.functional.dropout(torch.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype), dropout)
    return (weights @ values).transpose(1, 2)


def _is_short(query: Tensor, length: int) -> bool:
    return query.device.type == "cpu" and length <= SHORT_ROW_TOKENS


def attend_packed(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: TokenLayout,
    *,
    scaling: float,
    softcap: float | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """Causal attention of a packed batch: ``(N, H, E)``, ``(N, K, E)``, ``(N, K, E)`` to ``(N, H, E)``.

    Args:
        query: any strides, as the others.
        key: queries of all heads of a group share a key head (grouped-query attention).
        value: one for each key.
        layout: which tokens are the shared prefix, and which the rows.
        scaling: factor on the scores.
        softcap: cap of the scores; no fused kernel knows it, so rows of any length go through all scores then.
        dropout: on the attention weights.
    """
    longest = layout.prefix_length + max(group.length for group in layout.groups)
    if not dropout and (softcap is not None or _is_short(query, longest)):
        return short_attention(query, key, value, layout, scaling=scaling, softcap=softcap)
    prefix = layout.prefix_length
    groups = [RowGroup(0, 1, prefix), *layout.groups] if prefix else list(layout.groups)
    sizes = [group.num_rows * group.length for group in groups]
    query, key, value = (states[: layout.num_placed] for states in (query, key, value))
    parts = list(zip(groups, *(torch.split(states, sizes) for states in (query, key, value)), strict=True))
    outputs = [
        _fused_kernel(group, q, k, v, parts[0][2:] if prefix and i > 0 else None, scaling, dropout)
        for i, (group, q, k, v) in enumerate(parts)
    ]
    return torch.cat((*outputs, query.new_zeros(layout.num_tokens - layout.num_placed, *query.shape[1:])))


def _fused_kernel(
    group: RowGroup, query: Tensor, key: Tensor, value: Tensor, prefix: tuple[Tensor, Tensor] | None, scaling: float, dropout: float
) -> Tensor:
    """One group by torch's fused kernels, ``(B*T, H, E)``."""
    shape = (group.num_rows, group.length, -1, query.shape[-1])
    rows = [states.reshape(shape).transpose(1, 2) for states in (query, key, value)]  # (B, H, T, E)
    mask = None
    if prefix is not None:
        for i, shared in enumerate(prefix, start=1):
            rows[i] = torch.cat((shared.transpose(0, 1).expand(group.num_rows, -1, -1, -1), rows[i]), dim=2)
        num_keys = rows[1].shape[2]
        mask = torch.ones(group.length, num_keys, dtype=torch.bool, device=query.device).tril_(num_keys - group.length)
    repeats = query.shape[1] // key.shape[1]
    keys, values = (states if repeats == 1 else states.repeat_interleave(repeats, dim=1) for states in rows[1:])
    output = nn.functional.scaled_dot_product_attention(
        rows[0], keys, values, attn_mask=mask, dropout_p=dropout, is_causal=mask is None, scale=scaling
    )
    return output.transpose(1, 2).flatten(0, 1)
