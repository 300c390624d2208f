"""Rounding to the nearest against onnxruntime's own quantizer, bit for bit, in every format."""

from __future__ import annotations

import pytest
import torch

from tunesmith.errors import ModelError, ShapeError, UsageError
from tunesmith.export.recipes.blocks import BITS, BLOCK_SIZES, BlockFormat, Blocks
from tunesmith.export.recipes.rounding import round_to_nearest
from tunesmith.methods import grid

FORMATS = [BlockFormat(bits, size, symmetric) for bits in BITS for size in BLOCK_SIZES for symmetric in (True, False)]


def random(num_outputs: int, num_inputs: int, scale: float = 1.0) -> torch.Tensor:
    return torch.randn(num_outputs, num_inputs, generator=torch.Generator().manual_seed(num_outputs * num_inputs)) * scale


def weights() -> dict[str, torch.Tensor]:
    """Weights where quantizers that are almost right go wrong."""
    halves = torch.randint(-16, 17, (64, 64), generator=torch.Generator().manual_seed(0)) / 16
    halves[:, ::16] = -1
    return {
        "normal": random(128, 256, 0.02),
        "halves": halves,
        "halves, positive extreme": -halves,
        "zeros": torch.zeros(4, 64),
        "blocks of zeros": torch.cat([random(8, 32), torch.zeros(8, 64), random(8, 32)], dim=1),
        "all positive": random(16, 64).abs(),
        "all negative": -random(16, 64).abs(),
        "m and -m in one block": torch.tensor([1.0, -1.0] * 32).repeat(3, 1),
        "below the smallest normal number": random(16, 64, 1e-40),
        "large": random(16, 64, 1e37),
        "bfloat16": random(64, 96).bfloat16(),
        "a padded block": random(33, 100),
        "an odd number of inputs": random(5, 35),
    }


def unpacked(packed: torch.Tensor, bits: int) -> torch.Tensor:
    return grid.unpack(packed) if bits == 4 else packed


def as_onnxruntime(weight: torch.Tensor, chosen: BlockFormat) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Codes, scales and zero points of ``MatMulNBitsQuantizer``'s default way, which is the model builder's."""
    quantizer = pytest.importorskip("onnxruntime.quantization.matmul_nbits_quantizer", reason="needs onnxruntime (extra 'cpu') and onnx")
    config = quantizer.DefaultWeightOnlyQuantConfig(block_size=chosen.block_size, is_symmetric=chosen.symmetric, bits=chosen.bits)
    packed, scales, points = quantizer.DefaultWeightOnlyQuantizer(config).qbits_block_quant(weight.float().t().contiguous().numpy())
    return (
        unpacked(torch.from_numpy(packed), chosen.bits),
        torch.from_numpy(scales),
        unpacked(torch.from_numpy(points), chosen.bits)[:, : scales.shape[1]],
    )


@pytest.mark.parametrize("chosen", FORMATS, ids=lambda chosen: chosen.name)
def test_codes_scales_and_zero_points_are_those_of_onnxruntime(chosen: BlockFormat) -> None:
    for name, weight in weights().items():
        found = round_to_nearest(weight, chosen)
        codes, scales, points = as_onnxruntime(weight, chosen)
        used = weight.shape[1] if weight.shape[1] % 2 else None  # it leaves chance in the other half of the last byte
        assert torch.equal(found.codes.flatten(1)[:, :used], codes.flatten(1)[:, :used]), name
        assert torch.equal(found.scales.view(torch.int32), scales.view(torch.int32)), name
        if found.zero_points is not None:
            assert torch.equal(found.zero_points, points), name


@pytest.mark.parametrize("chosen", FORMATS, ids=lambda chosen: chosen.name)
def test_a_value_is_code_minus_zero_point_times_scale_within_half_a_step(chosen: BlockFormat) -> None:
    weight = random(6, 80)
    blocks = round_to_nearest(weight, chosen)
    zero = chosen.middle if blocks.zero_points is None else blocks.zero_points[:, :, None].float()
    expected = ((blocks.codes.float() - zero) * blocks.scales[:, :, None]).flatten(1)[:, :80]
    assert torch.equal(blocks.values(), expected)
    step = blocks.scales.abs().repeat_interleave(chosen.block_size, dim=1)[:, :80]
    # one step where the zero point itself was rounded, or the far end of a symmetric range is cut off
    assert ((blocks.values() - weight).abs() <= 1.001 * step).all()
    assert ((blocks.values() - weight).abs() <= 0.501 * step).float().mean() > 0.9


def test_bytes_are_codes_scales_and_packed_zero_points() -> None:
    assert BlockFormat(4, 32, True).bytes_for(10, 96) == 10 * 3 * (16 + 4)
    assert BlockFormat(4, 32, False).bytes_for(10, 96) == 10 * (3 * (16 + 4) + 2)  # three zero points of 4 bits in two bytes
    assert BlockFormat(8, 64, False).bytes_for(10, 96) == 10 * 2 * (64 + 4 + 1)
    assert round_to_nearest(random(10, 96), BlockFormat(4, 32, False)).size_bytes == 620


def test_formats_that_the_operator_does_not_have_are_refused() -> None:
    with pytest.raises(UsageError, match="3 bits"):
        BlockFormat(3, 32, True)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="blocks of 48"):
        BlockFormat(4, 48, True)  # type: ignore[arg-type]
    assert BlockFormat.from_dict(BlockFormat(8, 128, False).to_dict()) == BlockFormat(8, 128, False)


@pytest.mark.parametrize("chosen", [BlockFormat(4, 32, True), BlockFormat(8, 64, False)], ids=lambda chosen: chosen.name)
def test_what_can_not_be_rounded_is_refused(chosen: BlockFormat) -> None:
    with pytest.raises(ShapeError, match="only matrices"):
        round_to_nearest(torch.zeros(64), chosen)
    for value in (float("nan"), float("inf")):
        weight = random(4, 64)
        weight[2, 3] = value
        with pytest.raises(ModelError, match="not finite"):
            round_to_nearest(weight, chosen)


def test_parts_that_do_not_fit_together_are_refused() -> None:
    blocks = round_to_nearest(random(4, 64), BlockFormat(4, 32, True))
    with pytest.raises(ShapeError, match="don't fit 65 inputs"):
        Blocks(blocks.format, blocks.codes, blocks.scales, None, 65)
    with pytest.raises(ShapeError, match="don't fit"):
        Blocks(BlockFormat(4, 32, False), blocks.codes, blocks.scales, None, 64)
