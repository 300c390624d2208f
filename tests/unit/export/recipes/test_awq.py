"""AWQ: the model rescaled is the same function, and loses less when it is rounded."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tiny_models import tiny_model
from tunesmith.errors import ModelError
from tunesmith.export.recipes.awq import scale_for_activations
from tunesmith.export.recipes.blocks import BlockFormat
from tunesmith.export.recipes.calibration import collect
from tunesmith.export.recipes.gptq import quantization_loss
from tunesmith.export.recipes.rounding import round_to_nearest

INT4 = BlockFormat(4, 32, True)
ROWS = [list(range(10, 10 + length)) for length in (20, 30)]


def uneven(family: str, **changes: Any) -> Any:
    """A tiny model of which some inputs are far larger than others, as those of grown ones are; biases are not zero."""
    model = tiny_model(family, **changes)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name and parameter.dim() == 1:
                parameter += torch.randn(len(parameter), generator=generator).exp() - 1
            elif name.endswith("bias"):
                parameter += torch.randn(len(parameter), generator=generator)
    return model


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        return model(torch.tensor([ROWS[0]])).logits


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("llama", {}),
        ("llama", {"num_key_value_heads": 4, "attention_bias": True, "mlp_bias": True}),
        ("smollm", {}),
        ("mistral", {}),
        ("phi3", {}),
        ("qwen2", {}),
        ("qwen3", {}),
        ("gemma2", {}),
        ("gemma3", {}),
    ],
)
def test_the_function_stays_what_it_was(family: str, changes: dict[str, Any]) -> None:
    model = uneven(family, **changes)
    before, weights = logits(model), {name: value.clone() for name, value in model.state_dict().items()}
    scale_for_activations(model, collect(model, ROWS), INT4)
    assert (logits(model) - before).abs().max() < 1e-4 * before.abs().max().clamp(min=1)
    moved = [name for name, value in model.state_dict().items() if not torch.equal(value, weights[name])]
    assert sum("input_layernorm" in name for name in moved) == 2
    assert any("down_proj" in name for name in moved)
    assert any("o_proj" in name for name in moved) == (family != "phi3")  # there v lies in one matrix with q and k
    assert not any("lm_head" in name or "embed" in name for name in moved)


def test_rounding_loses_less_of_the_outputs() -> None:
    model = uneven("llama")
    before = collect(model, ROWS)
    name = "model.layers.0.mlp.up_proj"
    plain = model.get_submodule(name).weight.detach().clone()
    lost = quantization_loss(plain, round_to_nearest(plain, INT4).values(), before.of(name).gram)
    scale_for_activations(model, before, INT4)
    after = collect(model, ROWS)
    scaled = model.get_submodule(name).weight
    assert quantization_loss(scaled, round_to_nearest(scaled, INT4).values(), after.of(name).gram) < 0.9 * lost


def test_other_architectures_are_refused_and_nothing_is_changed() -> None:
    model = tiny_model("gpt2")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ModelError, match="awq doesn't know blocks like GPT2Block"):
        scale_for_activations(model, collect(model, ROWS), INT4)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
