"""Models as plain functions of tensors, which is what torch.onnx takes: no output classes, no caches as arguments.

Legend: B rows, T tokens read, N tokens written in this step, P tokens written before, D hidden size, L labels, V vocabulary, H heads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from tunesmith.models.pooling import pool

if TYPE_CHECKING:
    from transformers import EncoderDecoderCache


class ScoringGraph(nn.Module):
    """A model with a head: ids ``(B, T)`` and mask ``(B, T)`` to logits ``(B, L)``, or ``(B, T, L)`` for tags."""

    outputs = ("logits",)

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """Return the head's logits as float32."""
        more = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        logits: Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask, **more).logits
        return logits.float()


class EmbeddingGraph(nn.Module):
    """A model without a head: hidden states ``(B, T, D)``, and embeddings ``(B, D)`` of length 1, pooled as in training."""

    outputs = ("last_hidden_state", "sentence_embedding")

    def __init__(self, model: nn.Module, pooling: str) -> None:
        super().__init__()
        self.model, self.pooling = model, pooling

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return hidden states and embeddings."""
        more = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        hidden = self.model(input_ids=input_ids, attention_mask=attention_mask, **more).last_hidden_state.float()
        return hidden, pool(hidden, attention_mask.sum(dim=1).clamp(min=1), self.pooling)


class EncoderGraph(nn.Module):
    """The reading half: ids and mask ``(B, T)`` to hidden states, and to the keys and values ``(B, H, T, D/H)`` of the writing half.

    These are the same at every step of an answer, so they are computed once, here.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model: Any = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        """Return hidden states, then key and value for each block of the writing half."""
        hidden = self.model.get_encoder()(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        start = input_ids[:, :1]  # any token: the keys and values for what was read don't depend on what is written
        cache = _new_cache(self.model)
        self.model(encoder_outputs=(hidden,), attention_mask=attention_mask, decoder_input_ids=start, past_key_values=cache, use_cache=True)
        return hidden, *_tensors(cache.cross_attention_cache)


class DecoderGraph(nn.Module):
    """The writing half: new tokens ``(B, N)`` and what is kept of earlier ones to logits ``(B, N, V)`` and what is to be kept now.

    N may be anything and P may be 0, so that one graph does the first step, the others, and the scoring of whole answers.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model: Any = model

    def forward(self, input_ids: Tensor, encoder_attention_mask: Tensor, past: list[Tensor], encoded: list[Tensor]) -> tuple[Tensor, ...]:
        """Return logits, then key and value ``(B, H, P + N, D/H)`` of each block.

        Args:
            input_ids: ``(B, N)``.
            encoder_attention_mask: ``(B, T)``.
            past: key and value ``(B, H, P, D/H)`` of each block.
            encoded: key and value ``(B, H, T, D/H)`` of each block, from :class:`EncoderGraph`.
        """
        cache = _new_cache(self.model)
        for block, (keys, values) in enumerate(zip(encoded[::2], encoded[1::2], strict=True)):
            cache.cross_attention_cache.update(keys, values, block)
            cache.is_updated[block] = True
        for block, (keys, values) in enumerate(zip(past[::2], past[1::2], strict=True)):
            cache.self_attention_cache.update(keys, values, block)
        # of the hidden states only the shape is looked at: keys and values made of them are at hand
        hidden = torch.zeros(encoder_attention_mask.shape, dtype=encoded[0].dtype)[..., None].expand(-1, -1, self.model.config.hidden_size)
        output = self.model(
            encoder_outputs=(hidden,),
            attention_mask=encoder_attention_mask,
            decoder_input_ids=input_ids,
            past_key_values=cache,
            use_cache=True,
        )
        return output.logits.float(), *_tensors(cache.self_attention_cache)


def _new_cache(model: Any) -> EncoderDecoderCache:
    from transformers import DynamicCache, EncoderDecoderCache

    return EncoderDecoderCache(DynamicCache(config=model.config), DynamicCache(config=model.config))


def _tensors(cache: Any) -> list[Tensor]:
    return [tensor for layer in cache.layers for tensor in (layer.keys, layer.values)]
