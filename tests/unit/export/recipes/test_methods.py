"""Every recipe on whole tiny models: what it gives fits together, and those that look at activations lose less."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tiny_models import tiny_model
from tunesmith.errors import ModelError, UsageError
from tunesmith.export.recipes.blocks import BlockFormat
from tunesmith.export.recipes.calibration import Activations, collect
from tunesmith.export.recipes.gptq import gptq
from tunesmith.export.recipes.half_quadratic import half_quadratic
from tunesmith.export.recipes.recipe import METHODS, Method, WeightRecipe, quantize, quantized_values

INT4, ZERO_POINTS, INT8 = BlockFormat(4, 32, True), BlockFormat(4, 32, False), BlockFormat(8, 32, True)
ROWS = [torch.randint(4, 384, (length,), generator=torch.Generator().manual_seed(length)).tolist() for length in range(20, 60, 2)]


def divergence(model: Any, blocks: Any) -> float:
    """Mean nats a position by which the quantized model is off on the rows of calibration."""
    tokens = torch.tensor([row[:20] for row in ROWS])
    with torch.inference_mode():
        expected = model(tokens).logits.log_softmax(dim=-1)
        with quantized_values(model, blocks):
            found = model(tokens).logits.log_softmax(dim=-1)
    return float((expected.exp() * (expected - found)).sum(dim=-1).mean())


@pytest.mark.parametrize("family", ["llama", "smollm", "phi3"])
@pytest.mark.parametrize("method", METHODS)
def test_every_recipe_gives_every_matrix_and_leaves_the_model_alone(family: str, method: Method) -> None:
    if method == "k_quant":
        pytest.importorskip("onnxruntime.quantization", reason="needs onnxruntime (extra 'cpu') and onnx")
    model = tiny_model(family)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    recipe = WeightRecipe(method, ZERO_POINTS, higher=("model.layers.0.mlp",), head="int8")
    blocks = quantize(model, recipe, collect(model, ROWS) if recipe.needs_activations else None)
    assert list(blocks) == list(quantize(model, WeightRecipe("rtn", INT4)))
    for name, one in blocks.items():
        higher = name == "lm_head" or name.startswith("model.layers.0.mlp.")
        assert one.format == (INT8 if higher else ZERO_POINTS), name
        assert (one.num_outputs, one.num_inputs) == model.get_submodule(name).weight.shape
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert bool(blocks.floats) == ("awq" in method)


@pytest.mark.parametrize("family", ["llama", "smollm"])
def test_gptq_loses_less_than_rounding_to_the_nearest(family: str) -> None:
    model = tiny_model(family)
    activations = collect(model, ROWS)
    nearest = divergence(model, quantize(model, WeightRecipe("rtn", INT4)))
    assert divergence(model, quantize(model, WeightRecipe("gptq", INT4), activations)) < 0.8 * nearest
    assert divergence(model, quantize(model, WeightRecipe("awq+gptq", INT4), activations)) < 0.8 * nearest


def test_gptq_rounds_a_block_on_what_the_rounded_blocks_before_give_it() -> None:
    model = tiny_model("smollm")
    activations = collect(model, ROWS)
    blocks = quantize(model, WeightRecipe("gptq", INT4), activations)
    last = "model.layers.1.mlp.gate_proj"
    before = {name: one for name, one in blocks.items() if name.startswith("model.layers.0.") or name == "lm_head"}
    with quantized_values(model, before):
        gram = collect(model, ROWS, [last]).of(last).gram
    assert torch.equal(gptq(model.get_submodule(last).weight, INT4, gram).codes, blocks[last].codes)
    assert not torch.equal(gptq(model.get_submodule(last).weight, INT4, activations.of(last).gram).codes, blocks[last].codes)


def test_the_blocks_of_awq_belong_to_the_floats_that_come_with_them() -> None:
    model = tiny_model("llama")
    recipe = WeightRecipe("awq", BlockFormat(8, 16, False))
    blocks = quantize(model, recipe, collect(model, ROWS))
    assert {name.split(".")[-2] for name in blocks.floats} == {"input_layernorm", "post_attention_layernorm"}
    assert divergence(model, blocks) < 1e-3
    assert divergence(model, dict(blocks)) > 10 * divergence(model, blocks)  # without them it is another function


def test_the_methods_are_those_they_are_called() -> None:
    model = tiny_model("llama")
    name = "model.layers.1.self_attn.v_proj"
    weight = model.get_submodule(name).weight
    assert torch.equal(quantize(model, WeightRecipe("hqq", ZERO_POINTS))[name].values(), half_quadratic(weight, ZERO_POINTS).values())


def test_what_a_recipe_needs_is_asked_for() -> None:
    model = tiny_model("smollm")
    with pytest.raises(UsageError, match="gptq has to be calibrated"):
        quantize(model, WeightRecipe("gptq", INT4))
    with pytest.raises(UsageError, match="hqq fits zero points"):
        WeightRecipe("hqq", INT4)
    with pytest.raises(ModelError, match="not collected"):
        quantize(model, WeightRecipe("awq", INT4), Activations(tuple(map(tuple, ROWS))))
    assert not WeightRecipe("rtn", INT4).needs_activations
