"""GPTQ: less error in the outputs than rounding to the nearest, nothing changed that lies on the grid."""

from __future__ import annotations

import pytest
import torch

from tunesmith.errors import ModelError, ShapeError
from tunesmith.export.recipes.blocks import BlockFormat
from tunesmith.export.recipes.gptq import gptq, quantization_loss
from tunesmith.export.recipes.rounding import round_to_nearest

SYMMETRIC, ZERO_POINTS = BlockFormat(4, 32, True), BlockFormat(4, 64, False)
FORMATS = [SYMMETRIC, ZERO_POINTS, BlockFormat(4, 256, True), BlockFormat(8, 16, False)]


def correlated(num_inputs: int, tokens: int = 400, seed: int = 0) -> torch.Tensor:
    """Inputs of which a few directions hold nearly all, as hidden states do."""
    generator = torch.Generator().manual_seed(seed)
    few = torch.randn(tokens, 12, generator=generator) @ torch.randn(12, num_inputs, generator=generator)
    return few + 0.3 * torch.randn(tokens, num_inputs, generator=generator)


def weight_and_gram(num_outputs: int, num_inputs: int) -> tuple[torch.Tensor, torch.Tensor]:
    inputs = correlated(num_inputs)
    return torch.randn(num_outputs, num_inputs, generator=torch.Generator().manual_seed(1)), inputs.t() @ inputs


@pytest.mark.parametrize("activation_order", [False, True])
@pytest.mark.parametrize("chosen", FORMATS, ids=lambda chosen: chosen.name)
def test_the_error_of_the_outputs_is_far_below_that_of_rounding_to_the_nearest(chosen: BlockFormat, activation_order: bool) -> None:
    weight, gram = weight_and_gram(48, 300)  # the last block is not full
    nearest = quantization_loss(weight, round_to_nearest(weight, chosen).values(), gram)
    found = gptq(weight, chosen, gram, activation_order=activation_order)
    assert found.format == chosen
    assert quantization_loss(weight, found.values(), gram) < 0.5 * nearest


def test_the_loss_is_the_squared_error_of_the_outputs() -> None:
    inputs, weight = correlated(64), torch.randn(8, 64)
    values = round_to_nearest(weight, SYMMETRIC).values()
    expected = (inputs @ (weight - values).t()).square().sum()
    assert quantization_loss(weight, values, inputs.t() @ inputs) == pytest.approx(float(expected), rel=1e-3)


@pytest.mark.parametrize("activation_order", [False, True])
def test_a_weight_on_the_grid_stays_what_it_is(activation_order: bool) -> None:
    weight, gram = weight_and_gram(16, 96)
    on_grid = round_to_nearest(weight, SYMMETRIC)
    found = gptq(on_grid.values(), SYMMETRIC, gram, activation_order=activation_order)
    assert torch.equal(found.codes, on_grid.codes)
    assert torch.equal(found.values(), on_grid.values())


def test_inputs_that_are_independent_are_rounded_each_on_its_own() -> None:
    weight, _ = weight_and_gram(16, 64)
    found = gptq(weight, SYMMETRIC, torch.eye(64))
    error = (found.values() - weight).abs()
    limit = found.scales.abs().repeat_interleave(32, dim=1)
    inside = (found.codes.flatten(1) > 0) & (found.codes.flatten(1) < 15)
    assert (error <= 0.5001 * limit)[inside].all()
    nearest = (round_to_nearest(weight, SYMMETRIC).values() - weight).square().sum()
    assert error.square().sum() < nearest  # scales that cut off a little are better on average


def test_outputs_do_not_depend_on_each_other() -> None:
    weight, gram = weight_and_gram(4150, 40)  # more than are worked on at once
    whole, part = gptq(weight, SYMMETRIC, gram), gptq(weight[4090:4110], SYMMETRIC, gram)
    assert torch.equal(whole.codes[4090:4110], part.codes)


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_a_gram_matrix_without_full_rank_is_taken(rows: int) -> None:
    weight, inputs = torch.randn(8, 64), torch.zeros(4, 64)
    inputs[:rows] = correlated(64)[:rows]
    inputs[:, 5] = 0  # an input that nothing came through
    found = gptq(weight, SYMMETRIC, inputs.t() @ inputs)
    assert found.values().isfinite().all()
    step = found.scales[:, 0].abs()
    assert ((found.values()[:, 5] - weight[:, 5]).abs() <= 1.01 * step).all()


def test_what_does_not_fit_is_refused() -> None:
    weight, gram = weight_and_gram(8, 64)
    with pytest.raises(ShapeError, match=r"\(32, 32\) doesn't fit a weight \(8, 64\)"):
        gptq(weight, SYMMETRIC, gram[:32, :32])
    gram[3, 3] = float("nan")
    with pytest.raises(ModelError, match="not finite"):
        gptq(weight, SYMMETRIC, gram)
