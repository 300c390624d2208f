"""Full fine-tuning: every weight trains in float32 and is saved plain."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from short_training import distance, in_bfloat16, logits, train
from transformers import AutoModelForCausalLM

from tiny_models import FAMILIES, save_tiny, tiny_model
from tunesmith.methods import build_method
from tunesmith.models.sources import resolve_model


@pytest.mark.parametrize("family", FAMILIES)
def test_all_weights_train_in_float32_and_reload_the_same(family: str, tmp_path: Path) -> None:
    method = build_method("full")
    base = in_bfloat16(tiny_model(family))
    model = method.apply(base)
    parameters = method.trainable(model)
    assert {id(parameter) for parameter in parameters.values()} == {id(parameter) for parameter in model.parameters()}
    assert {parameter.dtype for parameter in parameters.values()} == {torch.float32}
    before = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    train(model, method, learning_rate=1e-3)
    # A norm's bias may stay at zero gradient on single tokens; matrices all move.
    assert all(not torch.equal(before[name], parameter) for name, parameter in parameters.items() if parameter.ndim == 2)
    method.save(model, tmp_path)
    assert {"config.json", "model.safetensors"} <= {path.name for path in tmp_path.iterdir()}
    reloaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert distance(logits(reloaded), logits(model)) == 0
    assert method.merge(model) is model


def test_the_base_is_loaded_in_float32_whatever_was_asked(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = resolve_model(str(save_tiny("llama", tmp_path)))
    method = build_method("full")
    with caplog.at_level(logging.WARNING, "tunesmith.methods"):
        model = method.load_base(source, dtype="bfloat16", device="cpu", trust_remote_code=False)
    assert model.dtype == torch.float32
    assert "--torch_dtype bfloat16 is not used" in caplog.text


def test_a_model_marked_as_quantized_trains(tmp_path: Path) -> None:
    """transformers leaves this mark on a model that it read from a GGUF file and dequantized."""
    model = tiny_model("llama")
    model.is_quantized = True
    method = build_method("full")
    method.save(method.apply(model), tmp_path)
    assert (tmp_path / "model.safetensors").is_file()
