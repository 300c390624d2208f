"""Models on the int4 grid: which layers lie on it, in which precision the rest is, and the plain model that comes out again."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from short_training import distance, in_bfloat16, logits, token_ids, weights_hash
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from tiny_models import FAMILIES, tiny_model
from tunesmith.errors import ModelError
from tunesmith.methods.dequantized import dequantize_model
from tunesmith.methods.grid import dequantize, quantize
from tunesmith.methods.grid_linear import GridEmbedding, GridLinear
from tunesmith.methods.grid_model import put_on_grid
from tunesmith.models.structure import linear_names, output_embedding

#: Weights are in the grid's own dtype, so the differences are those of another order of summation.
FLOAT32_BOUND = 2e-5


def on_grid(model: PreTrainedModel, dtype: torch.dtype = torch.float32, **options: list[str]) -> PreTrainedModel:
    changed = copy.deepcopy(model)
    put_on_grid(changed, dtype, **options)
    return changed


@pytest.mark.parametrize("family", FAMILIES)
class TestEveryFamily:
    def test_linear_layers_of_the_blocks_and_the_output_layer_lie_on_it(self, family: str) -> None:
        model, original = tiny_model(family), tiny_model(family)
        names = linear_names(model)
        tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
        record = put_on_grid(model, torch.float32)
        head = output_embedding(model)
        found = [name for name, module in model.named_modules() if isinstance(module, GridLinear)]
        assert sorted(found) == sorted([*names, *(name for name, module in model.named_modules() if module is head)])
        assert record["layers"] == len(found)
        assert isinstance(model.get_input_embeddings(), GridEmbedding) == tied
        assert (model.get_input_embeddings().weight is head.weight) == tied
        in_float = {
            name for name, module in model.named_modules() if isinstance(module, nn.Embedding) and module.weight.is_floating_point()
        }
        assert set(record["excluded"]) == in_float
        for name, parameter in model.named_parameters():
            if parameter.is_floating_point():
                assert torch.equal(parameter, original.get_parameter(name))

    def test_the_plain_model_holds_the_values_and_computes_the_same(self, family: str, tmp_path: Path) -> None:
        original = tiny_model(family)
        model = on_grid(original)
        before = weights_hash(model)
        plain = dequantize_model(model)
        assert weights_hash(model) == before
        assert type(plain) is type(original)
        assert {type(module) for module in plain.modules()} == {type(module) for module in original.modules()}
        assert distance(logits(plain), logits(model)) < FLOAT32_BOUND
        assert distance(logits(plain), logits(original)) > 0.1
        plain.save_pretrained(tmp_path)
        reloaded = AutoModelForCausalLM.from_pretrained(tmp_path)
        assert reloaded.dtype == torch.float32
        assert distance(logits(reloaded), logits(plain)) == 0
        again = on_grid(reloaded)
        for name, module in model.named_modules():
            if isinstance(module, GridLinear):
                other = again.get_submodule(name)
                assert torch.equal(other.weight, module.weight)
                assert torch.equal(other.scales, module.scales)

    def test_in_bfloat16_it_computes_what_the_plain_model_does_in_bfloat16(self, family: str) -> None:
        model = on_grid(tiny_model(family), torch.bfloat16)
        result = model(input_ids=token_ids()).logits
        assert result.dtype == torch.bfloat16
        assert distance(logits(model), logits(in_bfloat16(dequantize_model(model)))) == 0

    def test_it_generates_what_the_plain_model_does(self, family: str) -> None:
        model = on_grid(tiny_model(family))
        generated = [
            causal.generate(input_ids=token_ids()[:1], max_new_tokens=8, do_sample=False) for causal in (model, dequantize_model(model))
        ]
        assert torch.equal(*generated)


def test_values_are_those_of_each_layers_own_grid() -> None:
    original = tiny_model("smollm")
    plain = dequantize_model(on_grid(original))
    for name in (*linear_names(original), "lm_head", "model.embed_tokens"):
        weight = original.get_submodule(name).weight
        assert torch.equal(plain.get_submodule(name).weight, dequantize(*quantize(weight), weight.shape[1], torch.float32))
    assert plain.get_input_embeddings().weight is plain.get_output_embeddings().weight


def test_what_bfloat16_would_round_comes_out_unrounded() -> None:
    original = tiny_model("gpt2")
    with torch.no_grad():
        original.transformer.ln_f.weight.fill_(1 + 2**-12)
    model = on_grid(original, torch.bfloat16)
    assert (model.transformer.ln_f.weight == 1).all()
    plain = dequantize_model(model)
    assert torch.equal(plain.transformer.ln_f.weight, original.transformer.ln_f.weight)
    assert torch.equal(plain.transformer.wpe.weight, original.transformer.wpe.weight)
    assert torch.equal(plain.transformer.h[0].attn.c_attn.bias, original.transformer.h[0].attn.c_attn.bias)


def test_a_bfloat16_checkpoint_lies_on_the_grid_of_its_own_values() -> None:
    halves = in_bfloat16(tiny_model("llama"))
    assert weights_hash(dequantize_model(on_grid(halves, torch.bfloat16))) == weights_hash(dequantize_model(on_grid(halves.float())))


def test_rotary_frequencies_keep_their_precision() -> None:
    model = on_grid(tiny_model("llama"), torch.bfloat16)
    assert model.model.rotary_emb.inv_freq.dtype == torch.float32


def test_buffers_of_the_model_come_along() -> None:
    model = on_grid(tiny_model("llama"))
    model.model.rotary_emb.inv_freq *= 0.5  # as a checkpoint with values of its own would
    assert distance(logits(dequantize_model(model)), logits(model)) < FLOAT32_BOUND


@pytest.mark.parametrize("name", ["lm_head", "model.embed_tokens"])
def test_of_tied_embeddings_either_name_leaves_out_both(name: str) -> None:
    model = on_grid(tiny_model("smollm"), excluded=[name])
    assert type(model.lm_head) is nn.Linear
    assert model.lm_head.weight is model.get_input_embeddings().weight
    assert model.lm_head.weight.dtype == torch.float32
    assert isinstance(model.model.layers[0].self_attn.q_proj, GridLinear)


def test_an_excluded_layer_is_left_as_it_is_and_named_in_the_record() -> None:
    model, name = tiny_model("llama"), "model.layers.1.mlp.down_proj"
    before = model.get_submodule(name)
    record = put_on_grid(model, torch.float32, excluded=[name])
    assert model.get_submodule(name) is before
    assert record["excluded"] == ["model.embed_tokens", name]


class OddEmbedding(nn.Embedding):
    """A lookup that nothing here knows."""

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        return super().forward(input_ids) + self.weight.mean(dim=0)


def test_an_unknown_kind_of_tied_embedding_keeps_its_module_with_the_values_that_ship() -> None:
    model = tiny_model("smollm")
    odd = OddEmbedding(*model.get_input_embeddings().weight.shape)
    odd.weight = model.lm_head.weight
    model.set_input_embeddings(odd)
    put_on_grid(model, torch.float32)
    assert model.get_input_embeddings() is odd
    assert torch.equal(odd.weight, model.lm_head.dequantize(torch.float32))


def test_rows_for_new_tokens_are_refused() -> None:
    with pytest.raises(ModelError, match=r"can't get rows for new tokens .asked for 400 in all.*--quant_type nf4"):
        on_grid(tiny_model("smollm")).resize_token_embeddings(400)
