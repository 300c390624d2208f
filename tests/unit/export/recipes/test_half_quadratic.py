"""HQQ and k_quant: smaller errors of their own kind than rounding to the nearest, in codes that the operator can hold."""

from __future__ import annotations

import pytest
import torch

from tunesmith.errors import ModelError, UsageError
from tunesmith.export.recipes.blocks import BlockFormat, Blocks
from tunesmith.export.recipes.half_quadratic import half_quadratic
from tunesmith.export.recipes.k_quant import k_quant
from tunesmith.export.recipes.rounding import round_to_nearest

ZERO_POINTS = BlockFormat(4, 32, False)


def heavy_tailed(num_outputs: int, num_inputs: int) -> torch.Tensor:
    values = torch.randn(num_outputs, num_inputs, generator=torch.Generator().manual_seed(0))
    return 0.02 * values * (1 + values.abs())


def forgiving_error(weight: torch.Tensor, blocks: Blocks) -> float:
    return float((weight - blocks.values()).abs().pow(0.7).sum())


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_half_quadratic_leaves_less_of_the_error_that_it_is_for(size: float) -> None:
    weight = size * heavy_tailed(32, 128)
    for chosen in (ZERO_POINTS, BlockFormat(4, 128, False)):
        nearest, found = round_to_nearest(weight, chosen), half_quadratic(weight, chosen)
        assert forgiving_error(weight, found) < 0.995 * forgiving_error(weight, nearest)


def test_no_block_gets_worse() -> None:
    weight = heavy_tailed(32, 128)
    nearest, found = round_to_nearest(weight, ZERO_POINTS), half_quadratic(weight, ZERO_POINTS)
    for power in (0.7, 2):
        errors = [(weight - blocks.values()).abs().pow(power).view(32, 4, 32).sum(dim=-1) for blocks in (nearest, found)]
        assert (errors[1] <= errors[0] * 1.0001).all()


@pytest.mark.parametrize("rounded", [half_quadratic, k_quant])
def test_blocks_without_a_range_are_taken(rounded: object) -> None:
    if rounded is k_quant:
        pytest.importorskip("onnxruntime.quantization", reason="needs onnxruntime (extra 'cpu') and onnx")
    weight = heavy_tailed(4, 100)
    weight[0], weight[1], weight[2] = 0.0, 0.25, -0.25
    found = rounded(weight, ZERO_POINTS)  # type: ignore[operator]
    assert torch.equal(found.values()[0], torch.zeros(100))
    torch.testing.assert_close(found.values()[1:3, :96], weight[1:3, :96], rtol=1e-2, atol=0)
    assert found.zero_points is not None
    assert found.zero_points.max() <= 15
    assert found.codes.max() <= 15


def test_k_quant_is_onnxruntimes() -> None:
    onnxruntime = pytest.importorskip("onnxruntime.quantization.neural_compressor.weight_only", reason="needs onnxruntime and onnx")
    weight = heavy_tailed(16, 96)
    found = k_quant(weight, ZERO_POINTS)
    codes, scales, points = onnxruntime.quant_tensor_k_quant_cpu(weight.numpy(), 4, 32)
    assert torch.equal(found.codes.flatten(), torch.from_numpy(codes).to(torch.uint8).flatten())
    assert torch.equal(found.scales.flatten(), torch.from_numpy(scales).float().flatten())
    assert found.zero_points is not None
    assert torch.equal(found.zero_points.flatten(), torch.from_numpy(points).flatten())


@pytest.mark.parametrize("rounded", [half_quadratic, k_quant])
def test_what_has_no_zero_points_or_no_numbers_is_refused(rounded: object) -> None:
    with pytest.raises(UsageError, match="zero points"):
        rounded(heavy_tailed(4, 64), BlockFormat(4, 32, True))  # type: ignore[operator]
    with pytest.raises(ModelError, match="not finite"):
        rounded(torch.full((4, 64), float("nan")), ZERO_POINTS)  # type: ignore[operator]
