"""Recipes on tiny models: which layer gets which format, the model is left alone, and names, hashes and sizes can be relied on."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tiny_models import tiny_model
from tunesmith.errors import ModelError, UsageError
from tunesmith.export.recipes.blocks import BlockFormat
from tunesmith.export.recipes.recipe import WeightRecipe, quantize, quantized_values, size_bytes
from tunesmith.export.recipes.rounding import round_to_nearest

INT4, ZERO_POINTS = BlockFormat(4, 32, True), BlockFormat(4, 64, False)
ROWS = torch.arange(24).reshape(2, 12) + 10


def logits_of(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        return model(ROWS).logits.clone()


def state_of(model: Any) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_every_matrix_of_the_decoder_and_its_head_is_quantized() -> None:
    model = tiny_model("smollm")
    blocks = quantize(model, WeightRecipe("rtn", INT4))
    assert list(blocks)[-1] == "lm_head"
    assert len(blocks) == 2 * 7 + 1
    weight = model.get_submodule("model.layers.1.mlp.down_proj").weight
    assert torch.equal(blocks["model.layers.1.mlp.down_proj"].codes, round_to_nearest(weight, INT4).codes)
    assert all(one.format == INT4 for one in blocks.values())
    assert blocks.floats == {}


def test_higher_names_layers_or_what_is_around_them_and_the_head_apart() -> None:
    model = tiny_model("llama")
    recipe = WeightRecipe("rtn", ZERO_POINTS, higher=("model.layers.0.mlp", "model.layers.1.self_attn.q_proj"), head="int8")
    higher = {name for name, one in quantize(model, recipe).items() if one.format == BlockFormat(8, 64, True)}
    mlp = {f"model.layers.0.mlp.{name}" for name in ("gate_proj", "up_proj", "down_proj")}
    assert higher == mlp | {"model.layers.1.self_attn.q_proj", "lm_head"}
    with pytest.raises(ModelError, match=r"model.layers.7 can't be kept at 8 bits"):
        quantize(model, WeightRecipe("rtn", INT4, higher=("model.layers.7",)))
    with pytest.raises(ModelError, match="no such layer"):  # the start of a name is not a name
        quantize(model, WeightRecipe("rtn", INT4, higher=("model.layers.0.ml",)))


@pytest.mark.parametrize("family", ["smollm", "llama", "phi3", "gemma3"])
def test_the_model_runs_with_the_values_and_is_itself_again_afterwards(family: str) -> None:
    model = tiny_model(family)
    before, state = logits_of(model), state_of(model)
    blocks = quantize(model, WeightRecipe("rtn", INT4))
    with quantized_values(model, blocks) as quantized:
        assert torch.equal(quantized.get_submodule("lm_head").weight, blocks["lm_head"].values())
        same = torch.equal(model.get_input_embeddings().weight, blocks["lm_head"].values())
        assert same == model.config.tie_word_embeddings
        assert (logits_of(quantized) - before).abs().max() > 1e-3
    assert torch.equal(logits_of(model), before)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_the_model_is_itself_again_after_an_error() -> None:
    model = tiny_model("smollm")
    before, blocks = logits_of(model), quantize(tiny_model("smollm", seed=1), WeightRecipe("rtn", INT4))
    with pytest.raises(KeyboardInterrupt), quantized_values(model, blocks):
        raise KeyboardInterrupt
    blocks["model.layers.5.mlp.down_proj"] = blocks.pop("model.layers.1.mlp.down_proj")
    with pytest.raises(ModelError, match=r"model.layers.5.mlp.down_proj"), quantized_values(model, blocks):
        pass
    assert torch.equal(logits_of(model), before)


def test_a_recipe_is_what_it_was_after_json_and_its_hash_knows_every_part() -> None:
    recipes = [
        WeightRecipe("rtn", INT4),
        WeightRecipe("rtn", ZERO_POINTS),
        WeightRecipe("rtn", INT4, head="int8"),
        WeightRecipe("rtn", INT4, higher=("model.layers.0.mlp",)),
    ]
    assert [WeightRecipe.from_dict(recipe.to_dict()) for recipe in recipes] == recipes
    assert len({recipe.key() for recipe in recipes}) == len(recipes)
    assert recipes[0].key() == "21b9cf72a6e803f4"  # records on disk are found by it
    assert [recipe.name for recipe in recipes] == [
        "int4 rtn, blocks of 32",
        "int4 rtn, blocks of 64, zero points",
        "int4 rtn, blocks of 32, head int8",
        "int4 rtn, blocks of 32, 1 part int8",
    ]
    with pytest.raises(UsageError, match="'best' is not known; there are: rtn, hqq"):
        WeightRecipe("best", INT4)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="head 'int2'"):
        WeightRecipe("rtn", INT4, head="int2")  # type: ignore[arg-type]


def test_sizes_grow_by_what_is_stored() -> None:
    tied, untied = tiny_model("smollm"), tiny_model("llama")
    recipe = WeightRecipe("rtn", INT4)
    blocks = quantize(tied, recipe)
    floats = sum(4 * parameter.numel() for name, parameter in tied.named_parameters() if "norm" in name)
    rotary = 2 * 4 * tied.config.max_position_embeddings * 4
    graph = size_bytes(tied, recipe) - sum(one.size_bytes for one in blocks.values()) - floats - rotary
    assert 0 < graph < 50_000
    table = untied.get_input_embeddings().weight.numel() * 4
    assert size_bytes(untied, recipe) - size_bytes(tied, recipe) == table  # an embedding of its own stays in floating point
    more = INT4.bytes_for(384, 32) - BlockFormat(8, 32, True).bytes_for(384, 32)
    assert size_bytes(tied, recipe) - size_bytes(tied, WeightRecipe("rtn", INT4, head="int8")) == more
