"""Tokens added to the tokenizer: their rows are trained, saved with the adapter, and read by plain peft."""

from __future__ import annotations

import copy
from pathlib import Path

import peft
import pytest
import torch
from safetensors import safe_open
from short_training import FLOAT32_BOUND, distance, in_bfloat16, logits
from torch import nn
from transformers import PreTrainedModel

from tiny_models import FAMILIES, tiny_model
from tunesmith.errors import ModelError
from tunesmith.methods import build_method
from tunesmith.methods.adapters import load_adapter
from tunesmith.methods.added_tokens import add_token_rows, train_token_rows
from tunesmith.methods.lora import Lora

NEW_IDS = tuple(range(384, 390))
IDS = torch.tensor([[5, 384, 6, 385, 386, 7, 387, 388, 8, 389]])


def train_on_new_tokens(base: PreTrainedModel) -> tuple[nn.Module, Lora]:
    method = train_token_rows(build_method("lora", lora_r=4), add_token_rows(base, 390))
    assert isinstance(method, Lora)
    assert method.trainable_tokens == NEW_IDS
    model = method.apply(base)
    optimizer = torch.optim.AdamW(method.trainable(model).values(), lr=1e-2)
    for _ in range(3):
        model(input_ids=IDS, labels=IDS).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model, method


@pytest.mark.parametrize("family", FAMILIES)
def test_new_rows_are_trained_saved_and_read_again(family: str, tmp_path: Path) -> None:
    base = tiny_model(family)
    model, method = train_on_new_tokens(copy.deepcopy(base))
    expected = logits(model, IDS)
    method.save(model, tmp_path)
    with safe_open(tmp_path / "adapter_model.safetensors", "pt") as tensors:
        rows = {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys() if "lora_" not in name}  # noqa: SIM118
    assert rows
    assert set(rows.values()) == {(6, 32)}  # six rows, not the whole embedding
    # Drawn anew here: what an untied output embedding got in training must come from the adapter as well.
    assert distance(logits(load_adapter(copy.deepcopy(base), tmp_path), IDS), expected) == 0
    resized = copy.deepcopy(base)
    resized.resize_token_embeddings(390)
    assert distance(logits(peft.PeftModel.from_pretrained(resized, str(tmp_path)), IDS), expected) == 0
    assert distance(logits(method.merge(model), IDS), expected) < FLOAT32_BOUND


def test_old_rows_stay_and_new_ones_move() -> None:
    base = tiny_model("llama")
    old = base.get_input_embeddings().weight.detach().clone()
    model, method = train_on_new_tokens(base)
    start = base.get_input_embeddings().token_adapter.base_layer.weight[384:].clone()
    merged = method.merge(model)
    weight = merged.get_input_embeddings().weight
    assert torch.equal(weight[:384], old)
    assert (weight[384:] != start).any(dim=1).all()


def test_rows_in_a_bfloat16_base_are_trained_in_float32(tmp_path: Path) -> None:
    base = in_bfloat16(tiny_model("smollm"))
    model, method = train_on_new_tokens(copy.deepcopy(base))
    assert {parameter.dtype for parameter in method.trainable(model).values()} == {torch.float32}
    method.save(model, tmp_path)
    assert distance(logits(load_adapter(copy.deepcopy(base), tmp_path), IDS), logits(model, IDS)) == 0


def test_a_whole_saved_embedding_brings_its_rows(tmp_path: Path) -> None:
    base = tiny_model("smollm")
    resized = copy.deepcopy(base)
    add_token_rows(resized, 390)
    method = build_method("lora", lora_r=4, modules_to_save="embed_tokens")
    model = method.apply(resized)
    method.save(model, tmp_path)
    assert distance(logits(load_adapter(base, tmp_path), IDS), logits(model, IDS)) == 0


def test_enough_rows_change_nothing() -> None:
    base = tiny_model("llama")
    weight = base.get_input_embeddings().weight
    assert add_token_rows(base, 384) == ()
    assert base.get_input_embeddings().weight is weight
    method = build_method("adapter")
    assert train_token_rows(method, ()) is method


def test_methods_without_rows() -> None:
    full = build_method("full")
    assert train_token_rows(full, NEW_IDS) is full
    with pytest.raises(ModelError, match="6 tokens more than the model has rows, and --method adapter trains no rows"):
        train_token_rows(build_method("adapter"), NEW_IDS)
