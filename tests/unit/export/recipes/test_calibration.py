"""What is collected block by block is what the layers take in when the model is run whole."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tiny_models import tiny_model
from tunesmith.errors import DataError, ModelError
from tunesmith.export.recipes.calibration import collect
from tunesmith.export.recipes.layerwise import Layerwise

ROWS = [list(range(10, 10 + length)) for length in (5, 17, 30, 1)]


def taken_in(model: Any, name: str) -> torch.Tensor:
    """All inputs of one layer, a row at a time, without padding: ``(P, I)``."""
    found: list[torch.Tensor] = []
    hook = model.get_submodule(name).register_forward_pre_hook(lambda _, args: found.append(args[0][0]))
    with torch.inference_mode():
        for row in ROWS:
            model(torch.tensor([row]))
    hook.remove()
    return torch.cat(found)


@pytest.mark.parametrize("family", ["smollm", "gemma3", "qwen3"])
def test_gram_matrices_and_means_are_those_of_the_whole_model(family: str) -> None:
    model = tiny_model(family)
    found = collect(model, ROWS)
    assert found.rows == tuple(map(tuple, ROWS))
    for name in ("model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj", "model.layers.1.self_attn.o_proj", "lm_head"):
        inputs = taken_in(model, name)
        assert found.of(name).num_tokens == len(inputs) == sum(map(len, ROWS))
        torch.testing.assert_close(found.of(name).gram, inputs.t() @ inputs, rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(found.of(name).mean_abs, inputs.abs().mean(dim=0), rtol=1e-4, atol=1e-5)


def test_layers_that_are_fed_the_same_share_one_matrix() -> None:
    inputs = collect(tiny_model("llama"), ROWS).inputs
    shared = [inputs[f"model.layers.1.self_attn.{name}_proj"].gram for name in "qkv"]
    assert all(one is shared[0] for one in shared)
    assert inputs["model.layers.1.mlp.up_proj"].gram is inputs["model.layers.1.mlp.gate_proj"].gram
    assert inputs["model.layers.1.mlp.up_proj"].gram is not shared[0]
    assert len(inputs) == 15


def test_only_the_layers_that_are_named_are_collected() -> None:
    model = tiny_model("smollm")
    found = collect(model, ROWS, ["model.layers.1.mlp.up_proj"])
    assert list(found.inputs) == ["model.layers.1.mlp.up_proj"]
    with pytest.raises(ModelError, match="lm_head was not collected"):
        found.of("lm_head")
    with pytest.raises(ModelError, match=r"no linear layer model\.layers\.9\.x"):
        collect(model, ROWS, ["model.layers.9.x"])


def test_rows_without_tokens_are_refused() -> None:
    with pytest.raises(DataError, match="found none"):
        collect(tiny_model("smollm"), [[], []])


@pytest.mark.parametrize("family", ["smollm", "gemma2", "phi3"])
def test_block_by_block_is_the_model(family: str) -> None:
    model = tiny_model(family)
    walk = Layerwise(model, ROWS)
    states = walk.states
    for index in range(len(walk.blocks)):
        states = walk.run(index, states)
    with torch.inference_mode():
        found = model.get_output_embeddings()(torch.cat(walk.final(states)))
        body = model.base_model
        hidden = torch.cat([body(torch.tensor([row])).last_hidden_state[0] for row in sorted(ROWS, key=len)])
        expected = model.get_output_embeddings()(hidden)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
