"""Modules trained whole beside the adapter, and adapters on embeddings: tied or not, in float32 or bfloat16."""

from __future__ import annotations

import copy
from pathlib import Path

import peft
import pytest
import torch
from short_training import FLOAT32_BOUND, distance, in_bfloat16, logits, token_ids, train, weights_hash
from transformers import AutoModelForCausalLM

from tiny_models import FAMILIES, tiny_model
from tunesmith.errors import ModelError
from tunesmith.methods import build_method
from tunesmith.methods.adapters import load_adapter, remove_adapter

TIED = ("smollm", "qwen2", "qwen3", "gemma2", "gemma3", "gpt2")


def embedding_name(family: str) -> str:
    return "wte" if family == "gpt2" else "embed_tokens"


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("which", ["lm_head", "embeddings", "both"])
def test_trained_embeddings_reload_and_merge(which: str, family: str, tmp_path: Path) -> None:
    base = tiny_model(family)
    before = weights_hash(base)
    names = {"lm_head": ["lm_head"], "embeddings": [embedding_name(family)], "both": [embedding_name(family), "lm_head"]}[which]
    method = build_method("lora", lora_r=4, modules_to_save=names)
    model = train(method.apply(copy.deepcopy(base)), method)
    expected = logits(model)
    whole = [name for name in method.trainable(model) if "lora_" not in name]
    assert len(whole) == (1 if family in TIED else len(names))
    method.save(model, tmp_path / "adapter")
    assert distance(logits(load_adapter(copy.deepcopy(base), tmp_path / "adapter")), expected) == 0
    assert distance(logits(peft.PeftModel.from_pretrained(copy.deepcopy(base), str(tmp_path / "adapter"))), expected) == 0
    assert weights_hash(remove_adapter(copy.deepcopy(model))) == before
    merged = method.merge(model)
    assert distance(logits(merged), expected) < FLOAT32_BOUND
    assert merged.config.tie_word_embeddings == (family in TIED)
    merged.save_pretrained(tmp_path / "merged")
    assert distance(logits(AutoModelForCausalLM.from_pretrained(tmp_path / "merged")), logits(merged)) == 0


@pytest.mark.parametrize("family", TIED)
def test_tied_embeddings_stay_tied_in_training(family: str) -> None:
    method = build_method("lora", lora_r=4, modules_to_save=embedding_name(family))
    model = train(method.apply(tiny_model(family)), method)
    inner = model.get_base_model()
    assert inner.get_input_embeddings().weight is inner.get_output_embeddings().weight


@pytest.mark.parametrize("family", ["smollm", "llama", "gemma3", "gpt2"])
def test_float32_copies_inside_a_bfloat16_base(family: str, tmp_path: Path) -> None:
    base = in_bfloat16(tiny_model(family))
    method = build_method(
        "lora", lora_r=4, modules_to_save=[embedding_name(family), "lm_head", "ln_f" if family == "gpt2" else "model.norm"]
    )
    model = method.apply(copy.deepcopy(base))
    assert distance(logits(model), logits(base)) <= 0.02 * logits(base).abs().max()  # the head multiplies in float32 now
    assert {parameter.dtype for parameter in method.trainable(model).values()} == {torch.float32}
    train(model, method)
    assert model(input_ids=token_ids()).logits.dtype == torch.bfloat16
    with model.disable_adapter():
        assert distance(logits(model), logits(base)) == 0
    method.save(model, tmp_path)
    reloaded = load_adapter(copy.deepcopy(base), tmp_path)
    assert distance(logits(reloaded), logits(model)) == 0
    merged = method.merge(reloaded)
    assert {parameter.dtype for parameter in merged.parameters()} == {torch.float32}
    assert merged(input_ids=token_ids()).logits.dtype == torch.float32
    assert distance(logits(merged), logits(model)) < 0.05 * logits(model).abs().max()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("both", [False, True])
def test_adapters_on_embeddings_untie_them_when_merged(both: bool, family: str, tmp_path: Path) -> None:
    base = tiny_model(family)
    method = build_method("lora", lora_r=4, target_modules=["lm_head", *([embedding_name(family)] if both else [])])
    model = train(method.apply(copy.deepcopy(base)), method)
    expected = logits(model)
    method.save(model, tmp_path / "adapter")
    assert distance(logits(load_adapter(copy.deepcopy(base), tmp_path / "adapter")), expected) == 0
    assert distance(logits(peft.PeftModel.from_pretrained(copy.deepcopy(base), str(tmp_path / "adapter"))), expected) == 0
    merged = method.merge(model)
    assert distance(logits(merged), expected) < FLOAT32_BOUND
    assert merged.config.tie_word_embeddings is False
    merged.save_pretrained(tmp_path / "merged")
    assert distance(logits(AutoModelForCausalLM.from_pretrained(tmp_path / "merged")), logits(merged)) == 0


def test_a_module_cannot_be_trained_both_ways() -> None:
    with pytest.raises(ModelError, match=r"lm_head can't be in --modules_to_save and --target_modules at once"):
        build_method("lora", target_modules="lm_head", modules_to_save="lm_head").apply(tiny_model("llama"))
    with pytest.raises(ModelError, match=r"model.embed_tokens and lm_head share their weights"):
        build_method("lora", target_modules="lm_head", modules_to_save="embed_tokens").apply(tiny_model("smollm"))
