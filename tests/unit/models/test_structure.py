"""Blocks, their parts and their linear layers: for the named families, for others, and inside a peft wrapper."""

from __future__ import annotations

import peft
import pytest
import torch
import transformers
from torch import nn

from tiny_models import FAMILIES, MAX_LENGTH, tiny_model
from tunesmith.errors import ModelError
from tunesmith.models import structure

LLAMA_LAYERS = {
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
}
LAYERS = {
    "phi3": {"self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj"},
    "gpt2": {"attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"},
}
SMALL = {"vocab_size": 100, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}


@pytest.mark.parametrize("family", FAMILIES)
def test_blocks_and_their_parts(family: str) -> None:
    model = tiny_model(family)
    blocks = structure.decoder_blocks(model)
    assert len(blocks) == 2
    attention, feed_forward = ("attn", "mlp") if family == "gpt2" else ("self_attn", "mlp")
    for name, block in blocks:
        assert model.get_submodule(name) is block
        assert structure.attention_of(block) == (attention, getattr(block, attention))
        assert structure.feed_forward_of(block) == (feed_forward, getattr(block, feed_forward))


@pytest.mark.parametrize("family", FAMILIES)
def test_linear_layers(family: str) -> None:
    model = tiny_model(family)
    expected = {f"{name}.{layer}" for name, _ in structure.decoder_blocks(model) for layer in LAYERS.get(family, LLAMA_LAYERS)}
    assert set(structure.linear_names(model)) == expected


@pytest.mark.parametrize("family", FAMILIES)
def test_head_of_backbone_is_the_model(family: str) -> None:
    model, ids = tiny_model(family), torch.arange(5, 15).view(1, 10)
    with torch.no_grad():
        logits = structure.output_embedding(model)(structure.backbone(model)(ids).last_hidden_state)
        if family == "gemma2":  # squashes its logits
            cap = model.config.final_logit_softcapping
            logits = cap * torch.tanh(logits / cap)
        torch.testing.assert_close(logits, model(ids).logits)


@pytest.mark.parametrize("family", FAMILIES)
def test_decoders_are_causal(family: str) -> None:
    assert structure.is_causal(tiny_model(family))


@pytest.mark.parametrize("family", FAMILIES)
def test_longest_sequence(family: str) -> None:
    assert structure.max_positions(tiny_model(family)) == MAX_LENGTH


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_through_a_peft_wrapper(family: str) -> None:
    plain = tiny_model(family)
    wrapped = peft.get_peft_model(tiny_model(family), peft.LoraConfig(target_modules="all-linear", r=2, fan_in_fan_out=family == "gpt2"))
    assert structure.causal_lm(wrapped) is wrapped.base_model.model
    assert type(structure.backbone(wrapped)) is type(structure.backbone(plain))
    for name, block in structure.decoder_blocks(wrapped):
        assert wrapped.get_submodule(name) is block
    assert len(structure.decoder_blocks(wrapped)) == 2


@pytest.mark.parametrize(
    ("config", "attention"),
    [
        (transformers.OPTConfig(vocab_size=100, hidden_size=32, ffn_dim=48, num_hidden_layers=3, num_attention_heads=4), "self_attn"),
        (transformers.FalconConfig(**SMALL), "self_attention"),
        (transformers.BloomConfig(vocab_size=100, hidden_size=32, n_layer=3, n_head=4), "self_attention"),
        (transformers.GPTNeoXConfig(**SMALL), "attention"),
        (transformers.PhiConfig(**SMALL), "self_attn"),
        (transformers.MixtralConfig(**SMALL, num_key_value_heads=2, num_local_experts=2), "self_attn"),
    ],
    ids=lambda value: getattr(value, "model_type", value),
)
def test_other_decoders_are_searched(config: transformers.PreTrainedConfig, attention: str) -> None:
    model = transformers.AutoModelForCausalLM.from_config(config)
    assert structure.is_causal(model)
    blocks = structure.decoder_blocks(model)
    assert len(blocks) == 3
    assert structure.attention_of(blocks[0][1])[0] == attention


def test_text_part_of_a_model_that_also_sees() -> None:
    text = transformers.Gemma3TextConfig(**SMALL, num_key_value_heads=2, head_dim=8)
    vision = transformers.SiglipVisionConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=5, num_attention_heads=4, image_size=28, patch_size=14
    )
    config = transformers.Gemma3Config(text_config=text.to_dict(), vision_config=vision.to_dict())
    model = transformers.AutoModelForCausalLM.from_config(config)
    names = [name for name, _ in structure.decoder_blocks(model)]
    assert names == [f"model.language_model.layers.{index}" for index in range(3)]
    assert all(".language_model." in name for name in structure.linear_names(model))
    assert structure.is_causal(model)
    assert structure.max_positions(model) == text.max_position_embeddings


class Expert(nn.Module):
    """A block with more experts in it than there are blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(2, 2)) for _ in range(8))


def test_experts_are_not_blocks() -> None:
    model = nn.Module()
    model.layers = nn.ModuleList(Expert() for _ in range(3))
    assert [name for name, _ in structure.decoder_blocks(model)] == ["layers.0", "layers.1", "layers.2"]


def test_what_is_not_found_is_said() -> None:
    assert structure.is_causal(nn.Linear(2, 2))
    with pytest.raises(ModelError, match="no decoder blocks are found in Linear"):
        structure.decoder_blocks(nn.Linear(2, 2))
    with pytest.raises(ModelError, match="no attention is found in Expert; it has: experts"):
        structure.attention_of(Expert())
    with pytest.raises(ModelError, match="no feed-forward is found in Expert"):
        structure.feed_forward_of(Expert())
    with pytest.raises(ModelError, match="Linear has no backbone below its head"):
        structure.backbone(nn.Linear(2, 2))


def test_a_model_without_a_head_is_its_own_backbone() -> None:
    model = tiny_model("llama")
    assert structure.backbone(model) is model.model
    assert structure.backbone(model.model) is model.model
