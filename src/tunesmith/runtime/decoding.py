"""One batch of prompts inside a model: the prompts at once, then token after token, with keys and values kept.

Prompts are padded on the left, so that every row's next token is in the same column. Rows that have ended leave the batch.
What several prompts have in common at their beginning (a system prompt, examples) is computed once and kept in a `Prefix`.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

if TYPE_CHECKING:
    from transformers import DynamicCache, PreTrainedModel

# Legend: B rows, P tokens of the common prefix, T columns (prompt and answer so far), N new columns, V vocabulary.


@dataclass
class Prefix:
    """Keys and values of the first tokens of a prompt, one row."""

    tokens: list[int]
    cache: DynamicCache

    def common_length(self, prompts: Sequence[list[int]]) -> int:
        """Return how many of its tokens every prompt begins with; at least one token of each prompt is left over."""
        return common_prefix_length([self.tokens, *(prompt[:-1] for prompt in prompts)])

    def copies(self, length: int, num_rows: int) -> DynamicCache:
        """Return keys and values of its first ``length`` tokens for ``num_rows`` rows; the prefix stays as it is."""
        cache = copy.copy(self.cache)
        cache.layers = [copy.copy(layer) for layer in self.cache.layers]
        cache.crop(length - len(self.tokens))
        cache.batch_repeat_interleave(num_rows)
        return cache


class BatchDecoder:
    """Computes the logits of the next token for the rows of one batch.

    Args:
        model: a causal language model; one that keeps no keys and values (GPT-1, Mamba) is given the whole rows at each step.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._takes = frozenset(inspect.signature(model.forward).parameters)
        self._cache: DynamicCache | None = None
        self._columns = torch.empty(0, dtype=torch.long)  # (B, T) token ids, for models without keys and values
        self._mask = torch.empty(0, dtype=torch.long)  # (B, T), 0 where padded
        self._is_padded = False
        self.tokens: list[list[int]] = []

    def can_share_prefixes(self) -> bool:
        """Return whether the keys and values of a prefix can be cut and shared: not where a layer forgets or sums up what is far back."""
        return "past_key_values" in self._takes and not any(_forgets(layer) for layer in self._new_cache().layers)

    @torch.inference_mode()
    def prefix(self, tokens: Sequence[int]) -> Prefix:
        """Compute the keys and values of what several prompts begin with."""
        cache = self._new_cache()
        ids = torch.tensor([list(tokens)], device=self._model.device)
        self._model(input_ids=ids, past_key_values=cache, use_cache=True, **self._last_logits_only())
        return Prefix(list(tokens), cache)

    @torch.inference_mode()
    def prefill(self, prompts: Sequence[list[int]], prefix: Prefix | None = None) -> Tensor:
        """Take the prompts of the batch and return the logits ``(B, V)`` of their first new tokens."""
        self.tokens = [list(prompt) for prompt in prompts]
        shared = prefix.common_length(prompts) if prefix else 0
        if "past_key_values" in self._takes:
            self._cache = prefix.copies(shared, len(prompts)) if prefix and shared else self._new_cache()
        width = max(map(len, prompts)) - shared
        device = self._model.device
        padding = [width + shared - len(prompt) for prompt in prompts]
        ids = torch.tensor([[0] * pad + list(prompt[shared:]) for pad, prompt in zip(padding, prompts, strict=True)], device=device)
        real = torch.arange(width, device=device) >= torch.tensor(padding, device=device)[:, None]  # (B, N)
        self._mask = torch.cat([real.new_ones(len(prompts), shared), real], dim=1).long()
        self._is_padded = any(padding)
        return self._forward(ids)

    @torch.inference_mode()
    def advance(self, tokens: Sequence[int]) -> Tensor:
        """Append one token to each row and return the logits ``(B, V)`` of the next ones."""
        for row, token in zip(self.tokens, tokens, strict=True):
            row.append(token)
        ids = torch.tensor(tokens, device=self._model.device)[:, None]
        self._mask = torch.cat([self._mask, torch.ones_like(ids)], dim=1)
        return self._forward(ids)

    @torch.inference_mode()
    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows only."""
        index = torch.tensor(rows, device=self._model.device)
        self.tokens = [self.tokens[row] for row in rows]
        self._mask = self._mask[index]
        if self._cache is not None:
            self._cache.reorder_cache(index)
        else:
            self._columns = self._columns[index]

    def as_prefix(self) -> Prefix | None:
        """Return the first row as a prefix for what comes next; the decoder must not be used any more."""
        if self._cache is None or self._is_padded:
            return None
        return Prefix(self.tokens[0], self._cache)

    def _forward(self, ids: Tensor) -> Tensor:
        arguments: dict[str, Any] = self._last_logits_only()
        if self._cache is None:
            ids = self._columns = torch.cat([self._columns.to(ids), ids], dim=1) if self._columns.numel() else ids
        else:
            arguments |= {"past_key_values": self._cache, "use_cache": True}
        if self._is_padded:
            arguments["attention_mask"] = self._mask
        if "position_ids" in self._takes:
            positions = (self._mask.cumsum(dim=1) - 1).clamp(min=0)
            arguments["position_ids"] = positions[:, -ids.shape[1] :]
        with self._attention_kernel(ids.shape[1]):
            logits: Tensor = self._model(input_ids=ids, **arguments).logits
        return logits[:, -1]

    def _last_logits_only(self) -> dict[str, Any]:
        """Ask for the logits of the last column, by index.

        The number 1 would give a slice of the hidden states, which is not contiguous; torch then multiplies a frozen output embedding by
        copying it once a row (should_fold in ATen's LinearAlgebra.cpp), and a batch takes five times as long.
        """
        return {"logits_to_keep": torch.tensor([-1], device=self._model.device)} if "logits_to_keep" in self._takes else {}

    def _new_cache(self) -> DynamicCache:
        from transformers import DynamicCache

        return DynamicCache(config=self._model.config)

    def _attention_kernel(self, num_columns: int) -> AbstractContextManager[Any]:
        """On a CPU, for one query a row in half precision, the flash kernel takes twice the time of plain products."""
        if num_columns == 1 and self._model.device.type == "cpu" and self._model.dtype != torch.float32:
            return sdpa_kernel(SDPBackend.MATH)
        return nullcontext()


def _forgets(layer: Any) -> bool:
    """Return whether a layer of a cache is anything but plain keys and values of every token."""
    from transformers.cache_utils import DynamicLayer

    return type(layer) is not DynamicLayer


def common_prefix_length(sequences: Sequence[list[int]]) -> int:
    """Return how many tokens all ``sequences`` begin with: as many as the first and the last in lexical order."""
    first, last = min(sequences), max(sequences)
    return next((index for index, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
