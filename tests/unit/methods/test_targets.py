"""Names of modules as users write them."""

from __future__ import annotations

import pytest
from torch import nn

from tiny_models import FAMILIES, tiny_model
from tunesmith.errors import ModelError
from tunesmith.methods.targets import check_layers, resolve_modules_to_save, resolve_target_modules
from tunesmith.models.structure import linear_names

SHORT_NAMES = {
    "phi3": ["down_proj", "gate_up_proj", "o_proj", "qkv_proj"],
    "gpt2": ["c_attn", "c_fc", "c_proj"],
}
LLAMA_NAMES = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]


@pytest.mark.parametrize("family", FAMILIES)
def test_all_linear_is_short_and_means_the_linear_layers_of_the_blocks(family: str) -> None:
    model = tiny_model(family)
    names = resolve_target_modules(model, "all-linear")
    assert names == SHORT_NAMES.get(family, LLAMA_NAMES)
    matched = {full for full, _ in model.named_modules() if any(full.endswith(f".{name}") for name in names)}
    assert matched == set(linear_names(model))


def test_a_name_that_is_also_outside_the_blocks_is_written_in_full() -> None:
    model = tiny_model("llama")
    model.q_proj = nn.Linear(2, 2)  # stands for a tower whose layers bear the names of the decoder's
    names = resolve_target_modules(model, "all-linear")
    assert "q_proj" not in names
    assert {"k_proj", "model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.q_proj"} <= set(names)


def test_part_of_a_dotted_name_is_a_name() -> None:
    assert resolve_target_modules(tiny_model("llama"), ("mlp.up_proj", "lm_head")) == ["lm_head", "mlp.up_proj"]
    assert resolve_target_modules(tiny_model("llama"), "v_proj") == ["v_proj"]


def test_unknown_names_are_named_at_once_with_those_there_are() -> None:
    there = "c_attn, c_fc, c_proj, lm_head, wpe, wte"
    with pytest.raises(ModelError) as error:
        resolve_target_modules(tiny_model("gpt2"), ("q_proj", "c_att", "c_fc"))
    assert f"no module is named q_proj, c_att; the model has: {there}. Did you mean 'c_proj'? Did you mean 'c_attn'?" in str(error.value)


def test_modules_to_save_are_whole_names() -> None:
    model = tiny_model("llama")
    assert resolve_modules_to_save(model, ("norm", "lm_head")) == ["model.norm", "lm_head"]
    assert resolve_modules_to_save(model, ("input_layernorm",)) == ["model.layers.0.input_layernorm", "model.layers.1.input_layernorm"]
    with pytest.raises(ModelError, match="--modules_to_save: no module is named score"):
        resolve_modules_to_save(model, ("score",))


def test_blocks_are_counted_from_zero() -> None:
    model = tiny_model("llama")
    assert check_layers(model, None) is None
    assert check_layers(model, (0, 1)) == [0, 1]
    with pytest.raises(ModelError, match="names block 2, -1, the model has blocks 0 to 1"):
        check_layers(model, (0, 2, -1))
