"""What a decoder is made of, found the same way for every family: its blocks, their attention and feed-forward, its linear layers.

Llama, Mistral, Phi-3, Qwen, Gemma and GPT-2 differ in names only; other decoders are searched by shape: the blocks are the longest list
of like modules in the text decoder.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from tunesmith.errors import ModelError

_ATTENTION_NAMES = ("self_attn", "attn", "self_attention", "attention", "linear_attn", "mixer")
_FEED_FORWARD_NAMES = ("mlp", "feed_forward", "ffn", "block_sparse_moe")
_POSITION_NAMES = ("max_position_embeddings", "n_positions", "max_seq_len", "n_ctx", "max_sequence_length")


def causal_lm(model: nn.Module) -> nn.Module:
    """Return the transformers model inside a peft wrapper; any other model is returned as it is."""
    unwrap = getattr(model, "get_base_model", None)
    return unwrap() if callable(unwrap) else model


def backbone(model: nn.Module) -> nn.Module:
    """Return the model without its head (itself, when it has none): called like the model, it gives ``last_hidden_state`` ``(B, T, D)``.

    Raises:
        ModelError: when the model has no part of its own below the head.
    """
    inner = causal_lm(model)
    body: nn.Module | None = getattr(inner, "base_model", None)
    if body is None or (body is inner and _has_output_layer(inner)):
        raise ModelError(f"{type(inner).__name__} has no backbone below its head")
    return body


def _has_output_layer(inner: Any) -> bool:
    return hasattr(inner, "get_output_embeddings") and inner.get_output_embeddings() is not None


def output_embedding(model: nn.Module) -> nn.Module:
    """Return the layer that turns hidden states ``(…, D)`` into logits ``(…, V)``; its weight may be tied to the input embedding.

    Raises:
        ModelError: when the model has none.
    """
    inner: Any = causal_lm(model)
    head = inner.get_output_embeddings()
    if not isinstance(head, nn.Module):
        raise ModelError(f"{type(inner).__name__} has no output embedding")
    return head


def decoder_blocks(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return ``(full name, module)`` of every decoder block, first to last; names are those of ``model.named_modules()``.

    Raises:
        ModelError: when no list of like blocks is found.
    """
    inner: Any = causal_lm(model)
    return _blocks_of(model, inner.get_decoder() if hasattr(inner, "get_decoder") else inner)


def encoder_blocks(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return ``(full name, module)`` of every block of the encoder of an encoder-decoder; none for any other model."""
    inner: Any = causal_lm(model)
    return _blocks_of(model, inner.get_encoder()) if getattr(inner.config, "is_encoder_decoder", False) else []


def _blocks_of(model: nn.Module, decoder: nn.Module) -> list[tuple[str, nn.Module]]:
    outermost: dict[str, nn.ModuleList] = {}
    for name, module in decoder.named_modules():  # from the outside in; a list inside a block (experts) is not one of blocks
        inside_another = any(name.startswith(f"{outer}.") for outer in outermost)
        if isinstance(module, nn.ModuleList) and not inside_another and _looks_like_blocks(module):
            outermost[name] = module
    if not outermost:
        raise ModelError(f"no decoder blocks are found in {type(decoder).__name__}", fix="Is it a decoder-only language model?")
    blocks = max(outermost.values(), key=len)
    names = {id(module): name for name, module in model.named_modules()}
    return [(names[id(block)], block) for block in blocks]


def attention_of(block: nn.Module) -> tuple[str, nn.Module]:
    """Return ``(name within the block, module)`` of a block's attention.

    Raises:
        ModelError: when the block has none under a name or class that is known.
    """
    return _part(block, _ATTENTION_NAMES, "Attention", "attention")


def feed_forward_of(block: nn.Module) -> tuple[str, nn.Module]:
    """Return ``(name within the block, module)`` of a block's feed-forward part.

    Raises:
        ModelError: when the block has none in one module (OPT's two layers lie loose in the block).
    """
    return _part(block, _FEED_FORWARD_NAMES, "MLP", "feed-forward")


def linear_names(model: nn.Module) -> list[str]:
    """Return the full names of all linear layers (``nn.Linear`` and kinds of it, GPT-2's ``Conv1D``) inside all blocks."""
    blocks = [*encoder_blocks(model), *decoder_blocks(model)]
    return [f"{block_name}.{name}" for block_name, block in blocks for name, module in block.named_modules() if is_linear(module)]


def is_linear(module: nn.Module) -> bool:
    """Say whether a module multiplies by a weight matrix: ``nn.Linear``, 4-bit kinds of it, or ``Conv1D`` (weight transposed)."""
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, nn.Linear | Conv1D)


def is_causal(model: nn.Module) -> bool:
    """Say whether tokens see only those before them. Encoders like BERT say no; a model of unknown make is trusted."""
    try:
        first = decoder_blocks(model)[0][1]
    except ModelError:
        return True
    return all(getattr(module, "is_causal", True) for module in first.modules())


def max_positions(model: nn.Module) -> int | None:
    """Return the longest sequence in tokens that the model was made for, ``None`` when its configuration names none."""
    config: Any = causal_lm(model).config
    text = config.get_text_config()
    found = [getattr(text, name, None) for name in _POSITION_NAMES]
    return next((int(value) for value in found if isinstance(value, int) and value > 0), None)


def _looks_like_blocks(modules: nn.ModuleList) -> bool:
    # peft and quantization replace linear layers in place, so a block keeps its class
    return len(modules) > 0 and not is_linear(modules[0]) and any(is_linear(part) for part in modules[0].modules())


def _part(block: nn.Module, names: tuple[str, ...], class_name: str, what: str) -> tuple[str, nn.Module]:
    children = dict(block.named_children())
    for name in names:
        if name in children:
            return name, children[name]
    for name, module in children.items():
        if class_name in type(module).__name__:
            return name, module
    raise ModelError(f"no {what} is found in {type(block).__name__}; it has: {', '.join(children)}")
