"""Calling a model that ends in a head.

B rows, T tokens, L labels, D hidden size.
"""

from __future__ import annotations

import weakref
from typing import Any

from torch import Tensor, nn

from tunesmith.models.reading import takes_token_types
from tunesmith.models.structure import causal_lm, is_causal
from tunesmith.tasks.batches import mask_of
from tunesmith.tasks.protocol import Batch

_CAUSAL: weakref.WeakKeyDictionary[nn.Module, bool] = weakref.WeakKeyDictionary()


def head_logits(model: nn.Module, batch: Batch) -> Tensor:
    """Return what the head gives for ``input_ids`` ``(B, T)``: ``(B, L)``, or ``(B, T, L)`` where it scores tokens."""
    logits: Tensor = model(**model_inputs(model, batch["input_ids"], batch["lengths"], batch.get("token_type_ids"))).logits
    return logits


def model_inputs(model: nn.Module, input_ids: Tensor, lengths: Tensor, token_type_ids: Tensor | None = None) -> dict[str, Any]:
    """Return the arguments of ``model`` for right-padded rows; types of tokens go to a model that has some (a teacher may have none).

    A decoder needs no mask for that (see `tunesmith.train.batching.collate`), and is faster without.
    """
    base = causal_lm(model)
    if base not in _CAUSAL:
        _CAUSAL[base] = is_causal(base)
    if _CAUSAL[base]:
        return {"input_ids": input_ids, "use_cache": False}
    types = {"token_type_ids": token_type_ids} if token_type_ids is not None and takes_token_types(base) else {}
    return {"input_ids": input_ids, "attention_mask": mask_of(lengths, input_ids.shape[1]), **types}
