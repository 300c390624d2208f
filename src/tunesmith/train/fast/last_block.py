"""The last decoder block computed only where a loss depends on it: keys and values of all tokens, the rest of supervised positions alone.

N tokens of a packed batch, M of them predict a supervised token, D hidden size.
"""

from __future__ import annotations

import types
from typing import Any

from torch import Tensor, nn

from tunesmith.train.fast.packing import TokenLayout

#: Decoder layers of transformers whose forward is: norm, attention, add, norm, feed-forward, add.
_KNOWN = frozenset(f"{family}DecoderLayer" for family in ("Llama", "Mistral", "Qwen2", "Qwen3", "Gemma"))


def fast_last_block_forward(block: nn.Module) -> bool:
    """Give the last decoder block, whose attention has the forward of `attention_block`, one that keeps only the tokens that predict.

    Returns: whether the block is of a kind that it fits.
    """
    attention = getattr(block, "self_attn", None)
    if type(block).__name__ not in _KNOWN or "forward" in block.__dict__ or attention is None or "forward" not in attention.__dict__:
        return False
    own = type(block).forward

    def forward(self: Any, hidden_states: Tensor, *args: Any, token_layout: TokenLayout | None = None, **kwargs: Any) -> Any:
        if token_layout is None or args:
            return own(self, hidden_states, *args, **({} if token_layout is None else {"token_layout": token_layout}), **kwargs)
        predictors = token_layout.predictors
        change, _ = self.self_attn(
            hidden_states=self.input_layernorm(hidden_states), token_layout=token_layout, kept_tokens=predictors, **kwargs
        )
        hidden_states = hidden_states.index_select(1, predictors) + change  # (1, M, D)
        return hidden_states + self.mlp(self.post_attention_layernorm(hidden_states))

    block.forward = types.MethodType(forward, block)
    return True
