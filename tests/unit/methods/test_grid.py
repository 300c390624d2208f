"""The int4 and int8 grids against onnxruntime's own quantizer, bit for bit, and against its own definition."""

from __future__ import annotations

import pytest
import torch

from tunesmith.errors import ModelError, ShapeError
from tunesmith.methods.grid import BLOCK_SIZE, Bits, chunks, dequantize, pack, quantize, unpack

SHAPES = ((64, 96), (33, 100), (5, 8), (3, 32), (700, 576))


def random(num_outputs: int, num_inputs: int, scale: float = 1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(num_outputs * num_inputs)
    return torch.randn(num_outputs, num_inputs, generator=generator) * scale


def special_weights() -> dict[str, torch.Tensor]:
    """Weights where quantizers that are almost right go wrong."""
    halves = torch.randint(-16, 17, (512, 64), generator=torch.Generator().manual_seed(0)) / 16
    halves[:, 0] = -1  # scale 1/8: every other value lies half way between two codes
    return {
        "normal": random(2048, 512, 0.02),
        "halves": halves,
        "halves, positive extreme": -halves,
        "zeros": torch.zeros(4, 64),
        "negative zeros": -torch.zeros(4, 64),
        "a block of zeros": torch.cat([random(8, 32), torch.zeros(8, 32), random(8, 32)], dim=1),
        "all positive": random(16, 64).abs(),
        "all negative": -random(16, 64).abs(),
        "m and -m in one block": torch.tensor([1.0, -1.0] * 32).repeat(3, 1),
        "below the smallest normal number": random(16, 64, 1e-40),
        "large": random(16, 64, 1e37),
        "bfloat16": random(64, 96).bfloat16(),
    }


def onnxruntime_quantize(weight: torch.Tensor, bits: Bits) -> tuple[torch.Tensor, torch.Tensor]:
    """Packed codes and scales as ``onnxruntime.quantization`` makes them for a symmetric MatMulNBits in blocks of 32."""
    quantizer = pytest.importorskip("onnxruntime.quantization.matmul_nbits_quantizer", reason="needs onnxruntime (extra 'cpu') and onnx")
    config = quantizer.DefaultWeightOnlyQuantConfig(block_size=BLOCK_SIZE, is_symmetric=True, bits=bits)
    packed, scales, _ = quantizer.DefaultWeightOnlyQuantizer(config).qbits_block_quant(weight.float().t().contiguous().numpy())
    return torch.from_numpy(packed), torch.from_numpy(scales)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("name", special_weights())
def test_codes_and_scales_are_those_of_onnxruntime(name: str, bits: Bits) -> None:
    weight = special_weights()[name]
    packed, scales = quantize(weight, bits)
    expected_packed, expected_scales = onnxruntime_quantize(weight, bits)
    assert torch.equal(packed, expected_packed)
    assert torch.equal(scales.view(torch.int32), expected_scales.view(torch.int32))


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("shape", SHAPES)
def test_any_number_of_inputs_is_padded_as_onnxruntime_does(shape: tuple[int, int], bits: Bits) -> None:
    packed, scales = quantize(random(*shape), bits)
    expected_packed, expected_scales = onnxruntime_quantize(random(*shape), bits)
    assert torch.equal(packed, expected_packed)
    assert torch.equal(scales, expected_scales)


def test_the_extreme_of_a_block_is_exact_and_the_rest_within_half_a_step() -> None:
    weight = random(64, 96)
    packed, scales = quantize(weight)
    error = (dequantize(packed, scales, 96, torch.float32) - weight).view(64, 3, 32).abs()
    clamped = unpack(packed) == 15  # the end of the grid is 7 steps away on one side, 8 on the other
    assert (error <= 0.5001 * scales.abs().unsqueeze(-1)).logical_or(clamped).all()
    assert (error.amin(dim=-1) == 0).all()


def test_a_value_is_code_minus_8_times_scale_the_lower_code_first() -> None:
    packed = torch.tensor([[[0xF0 + low for low in range(16)]]], dtype=torch.uint8)
    expected = [value for low in range(16) for value in ((low - 8) * 0.5, (15 - 8) * 0.5)]
    assert dequantize(packed, torch.tensor([[0.5]]), 32, torch.float32).tolist() == [expected]
    assert torch.equal(pack(unpack(packed)), packed)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", SHAPES)
def test_dequantized_is_the_float32_product_rounded_once(shape: tuple[int, int], dtype: torch.dtype, bits: Bits) -> None:
    packed, scales = quantize(random(*shape), bits)
    codes, middle = (unpack(packed), 8) if bits == 4 else (packed, 128)
    product = (codes.float() - middle) * scales.unsqueeze(-1)
    values = dequantize(packed, scales, shape[1], dtype)
    assert values.dtype == dtype
    assert torch.equal(values, product.flatten(1)[:, : shape[1]].to(dtype))


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("shape", SHAPES)
def test_values_on_the_grid_quantize_to_themselves(shape: tuple[int, int], bits: Bits) -> None:
    packed, scales = quantize(random(*shape), bits)
    again, scales_again = quantize(dequantize(packed, scales, shape[1], torch.float32), bits)
    assert torch.equal(again, packed)
    assert torch.equal(scales_again, scales)


def test_what_is_no_matrix_or_not_finite_is_refused() -> None:
    with pytest.raises(ShapeError, match="found a tensor of shape \\(2, 3, 32\\)"):
        quantize(torch.zeros(2, 3, 32))
    for broken in (float("nan"), float("inf")):
        weight = random(4, 64)
        weight[1, 40] = broken
        with pytest.raises(ModelError, match="not finite"):
            quantize(weight)


def test_chunks_cover_every_row_once() -> None:
    for num_rows, length in ((1, 1_000_000), (7, 100), (1000, 3)):
        parts = chunks(num_rows, length, 300)
        assert [row for part in parts for row in range(num_rows)[part]] == list(range(num_rows))
        assert all(len(range(num_rows)[part]) * length <= max(300, length) for part in parts)
