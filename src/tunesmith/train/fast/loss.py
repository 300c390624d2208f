"""The supervised loss of a causal language model, computed only where there is something to learn.

B batch, T tokens, D hidden size, V vocabulary, N supervised tokens.

The output layer is run on the N positions whose next token is supervised, not on all ``B x T``: with a vocabulary of 49,152 it is a
fifth of the work of a model of 135M parameters, and the float32 softmax over it is slow and large.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tunesmith.data.tokenize import IGNORE_INDEX
from tunesmith.methods.grid_linear import GridLinear
from tunesmith.models.structure import backbone, causal_lm, output_embedding
from tunesmith.train.fast.acceleration import evaluation_mode, packed_hidden_states, packing_of
from tunesmith.train.fast.cross_entropy import linear_cross_entropy
from tunesmith.train.fast.packing import pack


@dataclass(frozen=True)
class SupervisedLoss:
    """Sum of token losses (scalar float32, with gradient), over how many tokens, and how many of them were predicted right."""

    loss_sum: Tensor
    num_supervised: int
    num_correct: int


@dataclass(frozen=True)
class _Head:
    """How a model turns hidden states into logits: ``cap(scale * (hidden @ weight.T + bias))``."""

    scale: float
    softcap: float | None


#: Models whose head was compared with what their own forward computes; None where it is something else.
_HEADS: weakref.WeakKeyDictionary[nn.Module, _Head | None] = weakref.WeakKeyDictionary()


@dataclass(frozen=True)
class _Predictors:
    """What predicts supervised tokens: ``hidden`` ``(N, D)``, ``targets`` ``(N,)`` and, of weighed rows, ``weights`` ``(N,)``."""

    hidden: Tensor
    targets: Tensor
    weights: Tensor | None


def supervised_loss(
    model: nn.Module,
    input_ids: Tensor,
    labels: Tensor,
    attention_mask: Tensor | None = None,
    *,
    row_weights: Tensor | None = None,
    chunk_tokens: int = 512,
) -> SupervisedLoss:
    """Loss over the supervised tokens of a batch; under ``torch.no_grad`` the same numbers for validation, in bounded memory.

    Args:
        model: causal language model, plain or wrapped with adapters.
        input_ids: ``(B, T)``.
        labels: ``(B, T)``, not shifted: ``labels[b, t]`` is the token at ``t``, or -100 where nothing is learnt.
        attention_mask: ``(B, T)``, or None where right padding needs none (see `tunesmith.train.batching.collate`).
        row_weights: ``(B,)`` float32 factors on the losses of all tokens of a row.
        chunk_tokens: rows of logits alive at once.
    """
    head = _head_of(model)
    if head is None:
        return _loss_of_own_logits(model, input_ids, labels, attention_mask, row_weights)
    found = _predictors(model, input_ids, labels, attention_mask, row_weights)
    hidden, targets = found.hidden, found.targets
    layer = _plain_layer(output_embedding(model))
    assert layer is not None
    weight = layer.dequantize(hidden.dtype) if isinstance(layer, GridLinear) else layer.weight
    result = linear_cross_entropy(
        hidden,
        weight,
        targets,
        bias=layer.bias,
        scale=head.scale,
        softcap=head.softcap,
        token_weights=found.weights,
        chunk_tokens=chunk_tokens,
    )
    return SupervisedLoss(result.loss_sum, len(targets), result.num_correct)


def module_loss(
    model: nn.Module,
    input_ids: Tensor,
    labels: Tensor,
    module: nn.Module,
    *,
    teacher: nn.Module | None = None,
    row_weights: Tensor | None = None,
    chunk_tokens: int | None = None,
) -> SupervisedLoss:
    """Loss over the supervised tokens of a batch by a module ``forward(logits, labels)`` that returns a mean over the rows it is given.

    Args:
        model, input_ids, labels: as for :func:`supervised_loss`.
        module: gets logits ``(N, V)`` float32 and targets ``(N,)``; third a teacher's logits ``(N, V)``, or the tokens' weights ``(N,)``.
        teacher: another causal language model with the same tokens; not together with weights.
        row_weights: ``(B,)`` float32 factors on the losses of all tokens of a row.
        chunk_tokens: rows of logits alive at once, for a module whose mean over all rows is that of its means over some; their logits are
            computed once more in the backward pass. None hands all rows over at once.
    """
    # a teacher's rows come in the order of the batch, which packing changes
    rows_of, targets, weights = _logits_by_rows(model, input_ids, labels, row_weights, packed=teacher is None)
    teacher_of = None
    if teacher is not None:
        with torch.no_grad():
            teacher_of = _logits_by_rows(teacher, input_ids, labels, None, packed=False)[0]

    def of_rows(rows: slice) -> tuple[Tensor, Tensor]:
        logits = rows_of(rows)
        with torch.no_grad():
            more = [teacher_of(rows)] if teacher_of is not None else [weights[rows]] if weights is not None else []
        return module(logits, targets[rows], *more) * len(logits), (logits.argmax(dim=-1) == targets[rows]).sum()

    step = chunk_tokens or max(len(targets), 1)
    parts = [slice(start, start + step) for start in range(0, len(targets), step)]
    once_more = torch.is_grad_enabled() and len(parts) > 1
    found = [checkpoint(of_rows, rows, use_reentrant=False) if once_more else of_rows(rows) for rows in parts]
    loss_sum = torch.stack([loss for loss, _ in found]).sum() if found else rows_of(slice(0, 0)).sum()
    return SupervisedLoss(loss_sum, len(targets), sum(int(right) for _, right in found))


def _logits_by_rows(
    model: nn.Module, input_ids: Tensor, labels: Tensor, row_weights: Tensor | None, *, packed: bool
) -> tuple[Callable[[slice], Tensor], Tensor, Tensor | None]:
    """Run the model up to its output layer; return a function that makes the logits ``(n, V)`` float32 of some rows, targets and weights.

    Args:
        packed: whether rows may be packed, which changes their order.
    """
    head = _head_of(model)
    if head is None:
        supervised = labels[:, 1:] != IGNORE_INDEX
        logits = _own_logits(model, input_ids, None, supervised)
        return lambda rows: logits[rows], labels[:, 1:][supervised], _token_weights(row_weights, supervised)
    found = _predictors(model, input_ids, labels, None, row_weights, packed=packed)
    layer = _plain_layer(output_embedding(model))
    assert layer is not None
    weight = layer.dequantize(found.hidden.dtype) if isinstance(layer, GridLinear) else layer.weight

    def of_rows(rows: slice) -> Tensor:
        bias = None if layer.bias is None else layer.bias.to(found.hidden.dtype)
        made = nn.functional.linear(found.hidden[rows], weight.to(found.hidden.dtype), bias).float() * head.scale
        return made if head.softcap is None else head.softcap * torch.tanh(made / head.softcap)

    return of_rows, found.targets, found.weights


def _predictors(
    model: nn.Module,
    input_ids: Tensor,
    labels: Tensor,
    attention_mask: Tensor | None,
    row_weights: Tensor | None,
    *,
    packed: bool = True,
) -> _Predictors:
    """Last hidden states of the tokens that predict a supervised one."""
    packing = packing_of(model) if packed else None
    if packing is not None:
        batch = pack(
            input_ids,
            labels,
            attention_mask,
            row_weights=row_weights,
            share_prefix=packing.share_prefix,
            max_row_tokens=packing.max_row_tokens,
        )
        if batch is not None:
            return _Predictors(packed_hidden_states(model, batch), batch.targets, batch.weights)
    hidden = backbone(model)(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).last_hidden_state  # (B, T, D)
    supervised = labels[:, 1:] != IGNORE_INDEX
    return _Predictors(hidden[:, :-1][supervised], labels[:, 1:][supervised], _token_weights(row_weights, supervised))


def _token_weights(row_weights: Tensor | None, supervised: Tensor) -> Tensor | None:
    """``(N,)``, from the weights of rows ``(B,)`` and what is supervised ``(B, T - 1)``."""
    return None if row_weights is None else row_weights.repeat_interleave(supervised.sum(dim=1))


def _loss_of_own_logits(
    model: nn.Module, input_ids: Tensor, labels: Tensor, attention_mask: Tensor | None, row_weights: Tensor | None
) -> SupervisedLoss:
    supervised = labels[:, 1:] != IGNORE_INDEX
    targets = labels[:, 1:][supervised]
    logits = _own_logits(model, input_ids, attention_mask, supervised)
    losses = nn.functional.cross_entropy(logits, targets, reduction="none")
    weights = _token_weights(row_weights, supervised)
    loss_sum = (losses if weights is None else losses * weights).sum()
    return SupervisedLoss(loss_sum, len(targets), int((logits.argmax(dim=-1) == targets).sum()))


def _own_logits(model: nn.Module, input_ids: Tensor, attention_mask: Tensor | None, supervised: Tensor) -> Tensor:
    """Logits by the model's own head, ``(N, V)`` float32: its output layer is handed the supervised rows only, as one sequence."""

    def keep_supervised(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (args[0][:, :-1][supervised].unsqueeze(0), *args[1:])

    layer = output_embedding(model)
    hook = layer.register_forward_pre_hook(keep_supervised)
    try:
        logits: Tensor = model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).logits
    finally:
        hook.remove()
    return logits[0].float()


def _plain_layer(layer: nn.Module) -> nn.Linear | GridLinear | None:
    """The linear layer, plain or on the int4 grid, that is active behind ``modules_to_save``; None when something else is done there."""
    saved = getattr(layer, "modules_to_save", None)
    if isinstance(saved, nn.ModuleDict):
        active = [name for name in getattr(layer, "active_adapters", []) if name in saved]
        layer = saved[active[0]] if active and not getattr(layer, "disable_adapters", False) else layer.original_module  # type: ignore[assignment]
    return layer if type(layer) is nn.Linear or type(layer) is GridLinear else None


def _head_of(model: nn.Module) -> _Head | None:
    layer = output_embedding(model)
    if _plain_layer(layer) is None:
        return None
    if layer not in _HEADS:
        head = _declared_head(model)
        _HEADS[layer] = head if _agrees(model, head) else None
    return _HEADS[layer]


def _declared_head(model: nn.Module) -> _Head:
    """What the configuration says about the logits; families spell it differently."""
    config: Any = causal_lm(model).config
    config = config.get_text_config()
    divisor = getattr(config, "logits_scaling", None) or 1.0  # Granite
    factor = getattr(config, "logit_scale", None) or getattr(config, "lm_head_multiplier", None) or 1.0  # Cohere, Falcon-H1
    return _Head(scale=float(factor) / float(divisor), softcap=getattr(config, "final_logit_softcapping", None))


@torch.no_grad()
def _agrees(model: nn.Module, head: _Head) -> bool:
    """Compare the head with the model's own forward on two tokens."""
    layer = output_embedding(model)
    seen: list[tuple[Tensor, Tensor]] = []
    hook = layer.register_forward_hook(lambda _, args, output: seen.append((args[0], output)))
    tokens = torch.tensor([[0, 1]], device=next(layer.parameters()).device)
    try:
        with evaluation_mode(model):
            logits = model(input_ids=tokens, use_cache=False).logits.float()
            hidden = backbone(model)(input_ids=tokens, use_cache=False).last_hidden_state
    finally:
        hook.remove()
    if len(seen) != 1 or not torch.allclose(seen[0][0].float(), hidden.float(), rtol=2e-2, atol=2e-2):
        return False
    if not torch.isfinite(logits).all():
        return True  # nothing can be compared; the loss will say what is wrong
    expected = seen[0][1].float() * head.scale
    expected = expected if head.softcap is None else head.softcap * torch.tanh(expected / head.softcap)
    return bool(torch.allclose(expected, logits, rtol=2e-2, atol=2e-2 * float(logits.abs().max())))
