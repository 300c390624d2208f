"""Attention as an interface of transformers: packed batches, and the kernel that is fast for a row length, device and dtype.

A model whose configuration names `INTERFACE` calls `attend` in every layer, with whatever its family needs (other scalings, score caps). What
it doesn't know (masks, caches, dropout, sliding windows within a row) goes to transformers' own SDPA function.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

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
    if token_layout is not None:
        return _attend_packed(query, key, value, token_layout, scaling, softcap, dropout), None
    num_rows, _, length, _ = query.shape
    causal = attention_mask is None and length > 1 and length == key.shape[2] and kwargs.get("is_causal", getattr(module, "is_causal", True))
    if causal and not dropout and _is_short(query, length):
        rows = [tensor.transpose(0, 1).flatten(1, 2)[None] for tensor in (query, key, value)]  # (1, H, B*T, E)
        return short_attention(*rows, num_rows=num_rows, scaling=scaling, softcap=softcap).unflatten(1, (num_rows, length))[0], None
    output, _ = sdpa_attention_forward(module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, softcap=softcap, **kwargs)
    return output, None


def _is_short(query: Tensor, length: int) -> bool:
    return query.device.type == "cpu" and length <= SHORT_ROW_TOKENS


def _attend_packed(
    query: Tensor, key: Tensor, value: Tensor, layout: TokenLayout, scaling: float, softcap: float | None, dropout: float
) -> Tensor:
    """``(1, H, N, E)`` to ``(1, N, H, E)``, group by group."""
    prefix = layout.prefix_length
    groups = [RowGroup(0, 1, prefix), *layout.groups] if prefix else list(layout.groups)
    sizes = [group.num_rows * group.length for group in groups]
    outputs = []
    parts = list(zip(groups, query.split(sizes, dim=2), key.split(sizes, dim=2), value.split(sizes, dim=2), strict=True))
    for i, (group, q, k, v) in enumerate(parts):
        shared = parts[0][2:] if prefix and i > 0 else (None, None)
        if not dropout and _is_short(query, group.length + prefix):
            output = short_attention(
                q, k, v, num_rows=group.num_rows, scaling=scaling, prefix_key=shared[0], prefix_value=shared[1], softcap=softcap
            )
        else:
            output = _long_attention(q, k, v, group.num_rows, scaling, softcap, dropout, *shared)
        outputs.append(output)
    return torch.cat(outputs, dim=1)


def _long_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    num_rows: int,
    scaling: float,
    softcap: float | None,
    dropout: float,
    prefix_key: Tensor | None,
    prefix_value: Tensor | None,
) -> Tensor:
    """One group by torch's fused kernels: ``(1, H, B*T, E)`` to ``(1, B*T, H, E)``."""
    rows = [tensor.unflatten(2, (num_rows, -1))[0].transpose(0, 1) for tensor in (query, key, value)]  # (B, H, T, E)
    query, key, value = rows
    length, group_size = query.shape[2], query.shape[1] // key.shape[1]
    mask = None
    if prefix_key is not None and prefix_value is not None:
        key = torch.cat((prefix_key.expand(num_rows, -1, -1, -1), key), dim=2)
        value = torch.cat((prefix_value.expand(num_rows, -1, -1, -1), value), dim=2)
        mask = torch.ones(length, key.shape[2], dtype=torch.bool, device=query.device).tril_(key.shape[2] - length)
    if group_size > 1:
        key, value = (tensor.repeat_interleave(group_size, dim=1) for tensor in (key, value))
    output = nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, dropout_p=dropout, is_causal=mask is None, scale=scaling
    )
    return output.transpose(1, 2).flatten(0, 1)[None]
