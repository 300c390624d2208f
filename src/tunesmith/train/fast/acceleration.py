"""Putting the tricks on a model, checking that it still computes the same, and taking them off again."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from tunesmith.data.tokenize import IGNORE_INDEX
from tunesmith.errors import UsageError, nearest
from tunesmith.models.structure import backbone, causal_lm, decoder_blocks
from tunesmith.train.fast import attention, attention_block, last_block, lora_linear, mlp, norm
from tunesmith.train.fast.packing import PackedBatch, pack

log = logging.getLogger(__name__)


@dataclass
class _Acceleration:
    """What was done to a model."""

    names: list[str] = field(default_factory=list)
    attention_before: str | None = None
    last_block: bool = False
    packing: Packing | None = None


@dataclass(frozen=True)
class Packing:
    """How batches of a model may be packed: rows up to ``max_row_tokens`` (None: any), a shared beginning computed once or not."""

    max_row_tokens: int | None
    share_prefix: bool


#: Tokens of each row of the check batch that predict a supervised one.
_PROBE_TOKENS = [11, 8, 6]

_ACCELERATED: weakref.WeakKeyDictionary[nn.Module, _Acceleration] = weakref.WeakKeyDictionary()


def accelerate_model(model: nn.Module, *, disable: frozenset[str] = frozenset()) -> list[str]:
    """Apply every trick that fits ``model``, except those named in ``disable``.

    Each trick is checked on a small batch: where the hidden states differ from what the model computed before by more than rounding, it is
    taken off again and said. Weights, their names and what is saved are never touched.

    Args:
        model: causal language model, plain or with adapters; call again when adapters were added or base weights unfrozen.
        disable: names out of `TRICKS`.

    Returns: the names of the tricks in use.
    Raises: UsageError: for a name in ``disable`` that is no trick.
    """
    for name in disable - TRICKS.keys():
        raise UsageError(f"unknown trick '{name}'; known: {', '.join(TRICKS)}", fix=nearest(name, TRICKS) or None)
    restore_model(model)
    wanted = [name for name in TRICKS if name not in disable]
    expected = _probe(model)
    if expected is None:  # nothing to compare with
        return []
    tolerance = _tolerance(model, expected)
    names = _apply(model, wanted)
    if not _agree(_probe(model), expected, tolerance):
        names = _apply_one_by_one(model, wanted, expected, tolerance)
    log.debug("Tricks in use: %s", ", ".join(names) or "none")
    return names


def restore_model(model: nn.Module) -> None:
    """Take back what `accelerate_model` did; harmless when it did nothing."""
    base = causal_lm(model)
    state = _ACCELERATED.pop(base, None)
    if state is None:
        return
    for module in model.modules():
        if getattr(module.__dict__.get("forward"), "__module__", "").startswith(__package__):
            del module.__dict__["forward"]
    if state.attention_before is not None:
        base.set_attn_implementation(state.attention_before)  # type: ignore[operator]


def packing_of(model: nn.Module) -> Packing | None:
    """How batches of ``model`` may be packed now; None when they must be computed padded."""
    state = _ACCELERATED.get(causal_lm(model))
    return None if state is None else state.packing


def packed_hidden_states(model: nn.Module, batch: PackedBatch) -> Tensor:
    """Last hidden states of the tokens that predict a supervised one, ``(M, D)``."""
    # A mask of four dimensions is handed down as it is, so none is built; `attend` looks at the layout instead.
    no_mask = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=batch.input_ids.device)
    output = backbone(model)(
        input_ids=batch.input_ids,
        position_ids=batch.position_ids,
        attention_mask=no_mask,
        use_cache=False,
        token_layout=batch.layout,
    )
    hidden: Tensor = output.last_hidden_state[0]
    predictors = batch.layout.predictors
    return hidden if _ACCELERATED[causal_lm(model)].last_block else hidden.index_select(0, predictors)


def _apply_lora(model: nn.Module, _: _Acceleration) -> bool:
    return _fits_any(model, lora_linear.fast_lora_forward)


def _apply_norm(model: nn.Module, _: _Acceleration) -> bool:
    return _on_cpu(model) and _fits_any(model, norm.fast_norm_forward)


def _apply_mlp(model: nn.Module, _: _Acceleration) -> bool:
    config: Any = causal_lm(model).config
    text = config.get_text_config()
    activation = getattr(text, "hidden_act", None) or getattr(text, "hidden_activation", None)
    return _fits_any(model, lambda module: mlp.fast_mlp_forward(module, str(activation)))


def _apply_attention(model: nn.Module, state: _Acceleration) -> bool:
    base: Any = causal_lm(model)
    if not _on_cpu(model) or not hasattr(base, "set_attn_implementation"):
        return False
    attention.register_interface()
    before = base.config._attn_implementation
    # Gemma 2 asks for eager attention because of its capped scores, which `attend` knows; another model has another reason.
    if before != "sdpa" and getattr(base.config.get_text_config(), "attn_logit_softcapping", None) is None:
        return False
    try:
        base.set_attn_implementation(attention.INTERFACE)
    except (ValueError, ImportError) as error:
        log.debug("%s keeps its own attention: %s", type(base).__name__, error)
        return False
    state.attention_before = before
    return True


def _apply_attention_block(model: nn.Module, state: _Acceleration) -> bool:
    return state.attention_before is not None and _fits_any(model, attention_block.fast_attention_forward)


def _apply_packing(model: nn.Module, state: _Acceleration) -> bool:
    base: Any = causal_lm(model)
    if state.attention_before is None:
        return False
    text = base.config.get_text_config()
    windows = [getattr(text, name, None) for name in ("sliding_window", "attention_chunk_size")]
    state.packing = Packing(min((int(window) for window in windows if window), default=None), not _has_dropout(model))
    return True


def _apply_last_block(model: nn.Module, state: _Acceleration) -> bool:
    state.last_block = state.packing is not None and last_block.fast_last_block_forward(decoder_blocks(model)[-1][1])
    return state.last_block


#: Name of a trick and what puts it on a model (and says whether it fits), in the order in which they are put on.
TRICKS: dict[str, Callable[[nn.Module, _Acceleration], bool]] = {
    "norm": _apply_norm,
    "mlp": _apply_mlp,
    "lora": _apply_lora,
    "attention": _apply_attention,
    "attention_block": _apply_attention_block,
    "packing": _apply_packing,
    "last_block": _apply_last_block,
}


def _apply(model: nn.Module, wanted: list[str]) -> list[str]:
    restore_model(model)
    state = _ACCELERATED[causal_lm(model)] = _Acceleration()
    state.names = [name for name in wanted if TRICKS[name](model, state)]
    return state.names


def _apply_one_by_one(model: nn.Module, wanted: list[str], expected: Tensor, tolerance: float) -> list[str]:
    """Keep the tricks with which the model computes what it did, one after the other."""
    kept: list[str] = []
    for name in wanted:
        _apply(model, [*kept, name])
        if _agree(_probe(model), expected, tolerance):
            kept.append(name)
        else:
            log.warning("Speed trick '%s' changes what %s computes and is left off.", name, type(causal_lm(model)).__name__)
    return _apply(model, kept)


@torch.no_grad()
def _probe(model: nn.Module) -> Tensor | None:
    """Hidden states of three rows of different lengths that begin alike, by the path that training would take; None if it fails."""
    config: Any = causal_lm(model).config
    input_ids = torch.arange(3, 3 + 3 * 12, device=next(model.parameters()).device).reshape(3, 12) % config.get_text_config().vocab_size
    input_ids[:, :4] = input_ids[0, :4]
    labels = input_ids.clone()
    labels[1, 9:], labels[2, 7:] = IGNORE_INDEX, IGNORE_INDEX
    with evaluation_mode(model):
        packing = packing_of(model)
        try:
            if packing is None:
                hidden = backbone(model)(input_ids=input_ids, use_cache=False).last_hidden_state
                return torch.cat([hidden[row, :count] for row, count in enumerate(_PROBE_TOKENS)]).float()
            batch = pack(input_ids, labels, share_prefix=packing.share_prefix)
            assert batch is not None
            return packed_hidden_states(model, batch).float()
        except (TypeError, ValueError, NotImplementedError, RuntimeError) as error:
            log.debug("The check of the speed tricks failed: %r", error)
            return None


def _tolerance(model: nn.Module, expected: Tensor) -> float:
    """How far two right computations may lie apart: some times what a rounding error in the embeddings comes to at the last block.

    That is 2% of a token's hidden state for the 30 blocks of SmolLM2 in bfloat16, and next to nothing in float32; a wrong mask or position
    changes it by its own size.
    """

    def round_differently(_: nn.Module, __: object, output: Tensor) -> Tensor:
        signs = torch.arange(output.shape[-1], device=output.device) % 2 * 2 - 1
        return (output.float() * (1 + signs * torch.finfo(output.dtype).eps)).to(output.dtype)

    embedding: Any = causal_lm(model).get_input_embeddings()  # type: ignore[operator]
    hook = embedding.register_forward_hook(round_differently)
    try:
        moved = _probe(model)
    finally:
        hook.remove()
    return 0.0 if moved is None else min(1e-4 + 4 * _distance(moved, expected), 0.3)


def _agree(found: Tensor | None, expected: Tensor, tolerance: float) -> bool:
    if found is None or found.shape != expected.shape:
        return False
    return _distance(found, expected) <= tolerance


def _distance(found: Tensor, expected: Tensor) -> float:
    """Relative change of a token's hidden state: the median of each row's tokens, for the row that changed most.

    The median, since some tokens (the first, those of little meaning) react to rounding a hundred times more than the others.
    """
    changes = (found - expected).norm(dim=-1) / expected.norm(dim=-1)  # (tokens,)
    return max(float(row.median()) for row in torch.split(changes, _PROBE_TOKENS))


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Switch dropout off for a while; modules that were in training mode are so again afterwards, the others are not touched."""
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _fits_any(model: nn.Module, apply: Callable[[nn.Module], bool]) -> bool:
    """Apply to every module; say whether it fits one of them."""
    return sum(apply(module) for module in model.modules()) > 0


def _on_cpu(model: nn.Module) -> bool:
    return next(model.parameters()).device.type == "cpu"


def _has_dropout(model: nn.Module) -> bool:
    """Whether anything is dropped in training: then rows that begin alike are not computed alike."""
    config: Any = causal_lm(model).config
    attention_dropout = getattr(config.get_text_config(), "attention_dropout", 0.0) or 0.0
    return attention_dropout > 0 or any(isinstance(module, nn.Dropout) and module.p > 0 for module in model.modules())
