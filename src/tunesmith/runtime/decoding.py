"""One batch of prompts inside a model: the prompts at once, then token after token, with keys and values kept.

Prompts are padded on the left, so that every row's next token is in the same column. Rows that have ended leave the batch.
What several prompts have in common at their beginning (a system prompt, examples) is computed once and kept in a `Prefix`.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Sequence
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
        cache = _copied(self.cache)
        cache.crop(length - len(self.tokens))
        cache.batch_repeat_interleave(num_rows)
        return cache


class BatchDecoder:
    """Computes the logits of the next token for the rows of one batch.

    Args:
        model: a causal language model; one that keeps no keys and values (GPT-1, Mamba) is given the whole rows at each step.
        branching: rows will be continued in several ways, so only a memory that can be copied is kept.
    """

    def __init__(self, model: PreTrainedModel, *, branching: bool = False) -> None:
        self._model = model
        self._takes = frozenset(inspect.signature(model.forward).parameters)
        self._cache: DynamicCache | None = None
        self._columns = torch.empty(0, dtype=torch.long)  # (B, T) token ids, for models without keys and values
        self._mask = torch.empty(0, dtype=torch.long)  # (B, T), 0 where padded
        self._is_padded = False
        self._keeps = "past_key_values" in self._takes and (not branching or all(map(_is_copied, self._new_cache().layers)))
        self.tokens: list[list[int]] = []

    @property
    def keeps_memory(self) -> bool:
        """Whether keys and values are kept, so that columns may be given in portions without computing any of them twice."""
        return self._keeps

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
        if self._keeps:
            self._cache = prefix.copies(shared, len(prompts)) if prefix and shared else self._new_cache()
        ids, real = self._padded([prompt[shared:] for prompt in prompts])
        self._mask = torch.cat([real.new_ones(len(prompts), shared), real], dim=1).long()
        self._is_padded = not bool(real.all())
        return self._forward(ids)[:, -1]

    @torch.inference_mode()
    def score(self, rows: Sequence[list[int]], num_logits: int, *, most_columns: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Take whole rows and yield logits ``(B, N, V)`` with the tokens ``(B, N)`` that follow in the rows, for their last tokens.

        Args:
            rows: at least two tokens each; aligned at their ends.
            num_logits: how many tokens at the rows' ends are asked for.
            most_columns: N at most, where the model keeps a memory; else all come at once.
        """
        ids, real = self._padded(rows)
        self._cache = self._new_cache() if self._keeps else None
        self._is_padded = not bool(real.all())
        self._mask = real[:, :0].long()
        width = ids.shape[1]
        first = width - num_logits  # the first column that is asked for; it is foreseen one column earlier
        portions = [(max(0, first - 1), width - 1)]
        if self._keeps and num_logits > most_columns:
            starts = range(first - 1, width - 1, most_columns)
            portions = [(start, min(start + most_columns, width - 1)) for start in starts]
        done = 0
        for start, end in portions:
            self._mask = torch.cat([self._mask, real[:, done:end].long()], dim=1)
            yield self._forward(ids[:, done:end], end - start), ids[:, start + 1 : end + 1]
            done = end

    @torch.inference_mode()
    def branch(self, rows: Sequence[int]) -> BatchDecoder:
        """Return a decoder whose rows go on from these rows, each of which may be named more than once; this one stays as it is."""
        index = torch.tensor(rows, device=self._model.device)
        other = copy.copy(self)
        other.tokens = [list(self.tokens[row]) for row in rows]
        other._mask = self._mask[index]
        if self._cache is None:
            other._columns = self._columns[index]
        else:
            other._cache = _copied(self._cache)
            other._cache.reorder_cache(index)
        return other

    @torch.inference_mode()
    def extend(self, columns: Sequence[Sequence[int]]) -> Tensor:
        """Append several tokens to each row, as many to all, and return the logits ``(B, N, V)`` behind each of them."""
        for row, tokens in zip(self.tokens, columns, strict=True):
            row.extend(tokens)
        ids = torch.tensor(columns, device=self._model.device)
        self._mask = torch.cat([self._mask, torch.ones_like(ids)], dim=1)
        return self._forward(ids, ids.shape[1])

    @torch.inference_mode()
    def advance(self, tokens: Sequence[int]) -> Tensor:
        """Append one token to each row and return the logits ``(B, V)`` of the next ones."""
        for row, token in zip(self.tokens, tokens, strict=True):
            row.append(token)
        ids = torch.tensor(tokens, device=self._model.device)[:, None]
        self._mask = torch.cat([self._mask, torch.ones_like(ids)], dim=1)
        return self._forward(ids)[:, -1]

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

    def _padded(self, rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Return rows ``(B, N)`` aligned at their ends, and where there are tokens."""
        width, device = max(map(len, rows)), self._model.device
        padding = [width - len(row) for row in rows]
        ids = torch.tensor([[0] * pad + list(row) for pad, row in zip(padding, rows, strict=True)], device=device)
        return ids, torch.arange(width, device=device) >= torch.tensor(padding, device=device)[:, None]

    def _forward(self, ids: Tensor, num_logits: int = 1) -> Tensor:
        """Give the model new columns and return the logits ``(B, num_logits, V)`` of the last of them."""
        num_columns = ids.shape[1]
        arguments: dict[str, Any] = self._last_logits_only(num_logits)
        if self._cache is None:
            ids = self._columns = torch.cat([self._columns.to(ids), ids], dim=1) if self._columns.numel() else ids
        else:
            arguments |= {"past_key_values": self._cache, "use_cache": True}
        if self._is_padded:
            arguments["attention_mask"] = self._mask
        if "position_ids" in self._takes:
            positions = (self._mask.cumsum(dim=1) - 1).clamp(min=0)
            arguments["position_ids"] = positions[:, -ids.shape[1] :]
        with self._attention_kernel(num_columns):
            logits: Tensor = self._model(input_ids=ids, **arguments).logits
        return logits[:, -num_logits:]

    def _last_logits_only(self, num_logits: int = 1) -> dict[str, Any]:
        """Ask for the logits of the last columns, by index.

        The number 1 would give a slice of the hidden states, which is not contiguous; torch then multiplies a frozen output embedding by
        copying it once a row (should_fold in ATen's LinearAlgebra.cpp), and a batch takes five times as long.
        """
        return {"logits_to_keep": torch.arange(-num_logits, 0, device=self._model.device)} if "logits_to_keep" in self._takes else {}

    def _new_cache(self) -> DynamicCache:
        from transformers import DynamicCache

        return DynamicCache(config=self._model.config)

    def _attention_kernel(self, num_columns: int) -> AbstractContextManager[Any]:
        """On a CPU, for one query a row in half precision, the flash kernel takes twice the time of plain products."""
        if num_columns == 1 and self._model.device.type == "cpu" and self._model.dtype != torch.float32:
            return sdpa_kernel(SDPBackend.MATH)
        return nullcontext()


def _copied(cache: DynamicCache) -> DynamicCache:
    """Return a cache that grows on its own; what it holds so far is shared."""
    other = copy.copy(cache)
    other.layers = [copy.copy(layer) for layer in cache.layers]
    return other


def _is_copied(layer: Any) -> bool:
    """Return whether a layer of a cache only ever replaces its tensors, so that :func:`_copied` leaves the original as it is."""
    from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

    return type(layer) in (DynamicLayer, DynamicSlidingWindowLayer)


def _forgets(layer: Any) -> bool:
    """Return whether a layer of a cache is anything but plain keys and values of every token."""
    from transformers.cache_utils import DynamicLayer

    return type(layer) is not DynamicLayer


def common_prefix_length(sequences: Sequence[list[int]]) -> int:
    """Return how many tokens all ``sequences`` begin with: as many as the first and the last in lexical order."""
    first, last = min(sequences), max(sequences)
    return next((index for index, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
