"""The attention module of Llama-like decoders: one shared product for query, key and value, then rotation and attention without transposes.

N tokens, D hidden size, H query heads, K key-value heads, E head size.
"""

from __future__ import annotations

import types
from typing import Any

from torch import Tensor, nn

from tunesmith.train.fast.attention import attend_packed
from tunesmith.train.fast.lora_linear import SharedInput
from tunesmith.train.fast.packing import TokenLayout
from tunesmith.train.fast.rotary import rotate

#: Attention classes of transformers whose forward is: project, norm queries and keys where there is a norm, rotate, attend, project.
_KNOWN = frozenset(f"{family}Attention" for family in ("Llama", "Mistral", "Qwen2", "Qwen3", "Gemma", "Gemma2", "Gemma3", "Granite"))


def fast_attention_forward(module: nn.Module) -> bool:
    """Give an attention module the forward below for packed batches; with caches and masks it goes on using its own.

    Returns: whether the module is of a kind that it fits.
    """
    if type(module).__name__ not in _KNOWN or "forward" in module.__dict__:
        return False
    parts: Any = module
    shared, output_projection = SharedInput([parts.q_proj, parts.k_proj, parts.v_proj]), SharedInput([parts.o_proj])
    size, scaling, softcap = int(parts.head_dim), float(parts.scaling), getattr(module, "attn_logit_softcapping", None)
    own = type(module).forward

    def forward(
        self: Any,
        hidden_states: Tensor,
        position_embeddings: tuple[Tensor, Tensor] | None = None,
        attention_mask: Tensor | None = None,
        past_key_values: Any = None,
        token_layout: TokenLayout | None = None,
        kept_tokens: Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        dropout = float(getattr(self, "attention_dropout", 0.0)) if self.training else 0.0
        if token_layout is None or position_embeddings is None or dropout or getattr(self, "is_kv_shared_layer", False):
            named = {"position_embeddings": position_embeddings, "attention_mask": attention_mask, "past_key_values": past_key_values}
            return own(self, hidden_states, **named, **({} if token_layout is None else {"token_layout": token_layout}), **kwargs)
        query, key, value = (states[0].reshape(len(states[0]), -1, size) for states in shared(hidden_states))  # (N, H, E), (N, K, E)
        if hasattr(self, "q_norm"):
            query, key = self.q_norm(query), self.k_norm(key)
        cos, sin = (table[0].unsqueeze(1).to(query.dtype) for table in position_embeddings)  # (N, 1, E)
        states = attend_packed(rotate(query, cos, sin), rotate(key, cos, sin), value, token_layout, scaling=scaling, softcap=softcap)
        states = states.flatten(1) if kept_tokens is None else states.flatten(1).index_select(0, kept_tokens)
        return output_projection(states[None])[0], None

    module.forward = types.MethodType(forward, module)
    return True
