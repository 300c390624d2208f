"""The ranking against the plain way: one part rounded, the whole model run, the divergence of all positions."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tiny_models import tiny_model
from tunesmith.export.recipes.blocks import BlockFormat
from tunesmith.export.recipes.recipe import WeightRecipe, quantize, quantized_values
from tunesmith.export.recipes.sensitivity import MAX_TOKENS, few_rows, measure_sensitivity

INT4 = BlockFormat(4, 32, True)
ROWS = [list(range(10, 10 + length)) for length in (5, 17, 30)]


def log_probabilities(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        return torch.cat([model(torch.tensor([row])).logits[0].log_softmax(dim=-1) for row in ROWS])


@pytest.mark.parametrize("family", ["smollm", "llama"])
def test_every_part_costs_what_the_whole_model_says(family: str) -> None:
    model = tiny_model(family)
    reference, blocks = log_probabilities(model), quantize(model, WeightRecipe("rtn", INT4))
    found = measure_sensitivity(model, ROWS, INT4)
    assert torch.equal(log_probabilities(model), reference)
    parts = [f"model.layers.{layer}.{part}" for layer in (0, 1) for part in ("self_attn", "mlp")]
    assert {part.name for part in found} == {*parts, "lm_head"}
    assert [part.kl for part in found] == sorted((part.kl for part in found), reverse=True)
    for part in found:
        inside = {name: one for name, one in blocks.items() if f"{name}.".startswith(f"{part.name}.")}
        with quantized_values(model, inside):
            expected = (reference.exp() * (reference - log_probabilities(model))).sum(dim=-1).mean()
        assert part.kl == pytest.approx(float(expected), rel=1e-3)
        assert part.num_weights == sum(one.num_outputs * one.num_inputs for one in inside.values())


def test_a_part_without_weights_worth_rounding_comes_last() -> None:
    model = tiny_model("smollm")
    with torch.no_grad():
        for name in ("gate_proj", "up_proj", "down_proj"):
            model.get_submodule(f"model.layers.1.mlp.{name}").weight.zero_()
    last = measure_sensitivity(model, ROWS, INT4)[-1]
    assert last.name == "model.layers.1.mlp"
    assert last.kl == pytest.approx(0, abs=1e-6)


def test_few_rows_are_spread_over_all_and_have_few_tokens() -> None:
    rows = [[number] * 20 for number in range(100)]
    assert [row[0] for row in few_rows(rows)] == list(range(0, 96, 6))
    assert [len(row) for row in few_rows([[1] * 9999, [2] * 9, [], [3] * 300])] == [MAX_TOKENS]
    assert [len(row) for row in few_rows([[], [1] * 400, [2] * 300, [3] * 100])] == [400, 100]
