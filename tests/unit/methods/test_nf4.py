"""NF4 by bitsandbytes: the same quantization as transformers', values that can be read back, and gradients after an evaluation."""

from __future__ import annotations

import copy
import importlib.util
from pathlib import Path

import pytest
import torch
from short_training import distance, in_bfloat16, logits, token_ids
from torch import nn
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedModel

from tiny_models import FAMILIES, save_tiny, tiny_model
from tunesmith.errors import DependencyError
from tunesmith.methods.dequantized import dequantize_model
from tunesmith.methods.nf4 import check_bitsandbytes, dequantize_nf4, is_nf4, put_on_nf4
from tunesmith.models.structure import linear_names

needs_bitsandbytes = pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="needs bitsandbytes (extra 'qlora')")


def on_nf4(model: PreTrainedModel, dtype: torch.dtype = torch.float32, **options: list[str]) -> PreTrainedModel:
    changed = copy.deepcopy(model)
    put_on_nf4(changed, dtype, "cpu", **options)
    return changed


@needs_bitsandbytes
@pytest.mark.parametrize("family", FAMILIES)
class TestEveryFamily:
    def test_the_same_bits_as_transformers_makes(self, family: str, tmp_path: Path) -> None:
        config = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=torch.bfloat16
        )
        theirs = AutoModelForCausalLM.from_pretrained(save_tiny(family, tmp_path), quantization_config=config, dtype=torch.bfloat16)
        ours = on_nf4(tiny_model(family), torch.bfloat16)
        assert {name for name, module in ours.named_modules() if is_nf4(module)} == set(linear_names(ours))
        for name, module in theirs.named_modules():
            assert is_nf4(module) == is_nf4(ours.get_submodule(name))
            if is_nf4(module):
                assert torch.equal(ours.get_submodule(name).weight.data, module.weight.data)
                assert torch.equal(dequantize_nf4(ours.get_submodule(name)), dequantize_nf4(module))

    def test_the_plain_model_holds_the_values_in_the_dtype_they_are_made_in(self, family: str) -> None:
        model = on_nf4(tiny_model(family), torch.bfloat16)
        plain = dequantize_model(model)
        assert {parameter.dtype for parameter in plain.parameters()} == {torch.bfloat16}
        assert distance(logits(plain), logits(model)) == 0
        exact = dequantize_model(model, dtype=torch.float32)
        for (name, ours), (_, theirs) in zip(exact.named_parameters(), plain.named_parameters(), strict=True):
            assert torch.equal(ours, theirs.float()), name


@needs_bitsandbytes
def test_an_evaluation_in_between_takes_no_gradient_away() -> None:
    model = on_nf4(in_bfloat16(tiny_model("llama", hidden_size=64)), torch.bfloat16)
    embedding = model.get_input_embeddings().requires_grad_(True)

    def gradient() -> torch.Tensor:
        embedding.weight.grad = None
        model.train()(input_ids=token_ids(), labels=token_ids()).loss.backward()
        assert embedding.weight.grad is not None
        return embedding.weight.grad.clone()

    before, values = gradient(), dequantize_nf4(model.model.layers[0].mlp.up_proj)
    with torch.no_grad():
        model.eval()(input_ids=token_ids())
    assert torch.equal(gradient(), before)
    assert torch.equal(dequantize_nf4(model.model.layers[0].mlp.up_proj), values)


@needs_bitsandbytes
def test_excluded_layers_and_the_output_layer_stay_and_are_named() -> None:
    model, name = tiny_model("smollm"), "model.layers.0.mlp.up_proj"
    before = model.get_submodule(name)
    record = put_on_nf4(model, torch.float32, "cpu", excluded=[name])
    assert model.get_submodule(name) is before
    assert type(model.lm_head) is nn.Linear
    assert record["excluded"] == ["lm_head", "model.embed_tokens", name]
    assert (record["quant_type"], record["double_quantization"], record["values"]) == ("nf4", True, "float32")


def test_without_bitsandbytes_the_command_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DependencyError, match=r"nf4 needs the package 'bitsandbytes'.*pip install 'tunesmith\[qlora\]'"):
        check_bitsandbytes()
