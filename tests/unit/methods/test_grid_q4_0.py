"""The q4_0 grid against the package gguf's own quantizer, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, quants

from tunesmith.errors import ModelError, ShapeError
from tunesmith.methods.grid import dequantize
from tunesmith.methods.grid_q4_0 import quantize

KIND = GGMLQuantizationType.Q4_0


def random(num_outputs: int, num_inputs: int, scale: float = 1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(num_outputs * num_inputs)
    return torch.randn(num_outputs, num_inputs, generator=generator) * scale


halves = torch.randint(-16, 17, (512, 64), generator=torch.Generator().manual_seed(0)) / 16
halves[:, 0] = -1
WEIGHTS = {
    "normal": random(2048, 512, 0.02),
    "halves": halves,
    "halves, positive extreme": -halves,
    "zeros": torch.zeros(4, 64),
    "a block of zeros": torch.cat([random(8, 32), torch.zeros(8, 32), random(8, 32)], dim=1),
    "m and -m in one block": torch.tensor([1.0, -1.0] * 32).repeat(3, 1),
    "-m and m in one block": torch.tensor([-1.0, 1.0] * 32).repeat(3, 1),
    "scales below float16's normal numbers": random(64, 64, 1e-6),
    "scales that float16 makes zero": random(64, 64, 1e-9),
    "large": random(16, 64, 1e4),
    "bfloat16": random(64, 96).bfloat16(),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_values_are_those_of_gguf(name: str) -> None:
    weight = WEIGHTS[name]
    expected = quants.dequantize(quants.quantize(weight.float().numpy(), KIND), KIND)
    found = dequantize(*quantize(weight), weight.shape[1], torch.float32)
    assert np.array_equal(found.numpy(), expected)


@pytest.mark.parametrize("name", WEIGHTS)
def test_values_on_the_grid_stay(name: str) -> None:
    """So a base that was trained on is written into a GGUF file as the same values."""
    weight = WEIGHTS[name]
    values = dequantize(*quantize(weight), weight.shape[1], torch.float32)
    assert torch.equal(dequantize(*quantize(values), weight.shape[1], torch.float32), values)
    assert np.array_equal(quants.dequantize(quants.quantize(values.numpy(), KIND), KIND), values.numpy())


def test_codes_are_those_of_gguf() -> None:
    weight = WEIGHTS["normal"]
    written = quants.quantize(weight.numpy(), KIND).reshape(2048, 16, 18)
    packed, scales = quantize(weight)
    assert np.array_equal(written[..., :2].copy().view(np.float16)[..., 0].astype(np.float32), scales.numpy())
    lower, upper = written[..., 2:] & 15, written[..., 2:] >> 4  # GGUF puts the first half of a block into the lower bits
    ours = np.stack([packed.numpy() & 15, packed.numpy() >> 4], axis=-1).reshape(2048, 16, 32)
    assert np.array_equal(np.concatenate([lower, upper], axis=-1), ours)


def test_what_has_no_place_on_it() -> None:
    with pytest.raises(ModelError, match=r"has 100 inputs, and q4_0 packs blocks of 32\. Use --quant_type onnx-int4"):
        quantize(torch.zeros(4, 100))
    with pytest.raises(ShapeError, match="only matrices"):
        quantize(torch.zeros(32))
    for value in (float("nan"), float("inf"), 1e7):
        with pytest.raises(ModelError, match="not finite, or too large"):
            quantize(torch.full((1, 32), value))
