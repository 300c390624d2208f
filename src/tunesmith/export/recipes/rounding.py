"""Rounding to the nearest value, exactly as onnxruntime's own quantizer does: the recipe that the model builder ships.

Legend: O outputs, I inputs, B blocks of a row.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tunesmith.errors import ModelError, ShapeError, UsageError
from tunesmith.export.recipes.blocks import BlockFormat, Blocks
from tunesmith.methods import grid

#: Weights that are worked on at once, so that temporaries stay small.
_CHUNK_WEIGHTS = 1 << 18


def round_to_nearest(weight: Tensor, block_format: BlockFormat) -> Blocks:
    """Round a weight to the nearest values of its blocks' grids, codes and scales equal to onnxruntime's bit for bit.

    Symmetric, as in :func:`tunesmith.methods.grid.quantize`: the value of largest magnitude gets code 0. With zero points the range from
    the lowest value (at most 0) to the highest (at least 0) is divided evenly, and the zero point is where 0 falls, rounded.

    Args:
        weight: ``(O, I)``, converted to float32.
        block_format: bits, block size, zero points.

    Raises:
        ShapeError: for anything that is not a matrix.
        ModelError: for weights that are not finite.
    """
    if weight.dim() != 2:
        raise ShapeError(f"only matrices can be stored in blocks, found a tensor of shape {tuple(weight.shape)}")
    if block_format.symmetric and block_format.block_size == grid.BLOCK_SIZE:
        packed, scales = grid.quantize(weight, block_format.bits)
        return Blocks(block_format, grid.unpack(packed) if block_format.bits == 4 else packed, scales, None, weight.shape[1])
    blocks = in_blocks(weight, block_format)
    codes = torch.empty(blocks.shape, dtype=torch.uint8)
    scales = torch.empty(blocks.shape[:2])
    zero_points = None if block_format.symmetric else torch.empty(blocks.shape[:2], dtype=torch.uint8)
    for rows in grid.chunks(len(blocks), blocks[0].numel() if len(blocks) else 1, _CHUNK_WEIGHTS):
        scales[rows], points = block_scales(blocks[rows], block_format)
        codes[rows] = nearest_codes(blocks[rows], scales[rows], points, block_format)
        if zero_points is not None:
            zero_points[rows] = points.to(torch.uint8)
    if not scales.isfinite().all():
        raise _not_finite()
    _clear_padding(codes, weight.shape[1], block_format)
    return Blocks(block_format, codes, scales, zero_points, weight.shape[1])


def in_blocks(weight: Tensor, block_format: BlockFormat) -> Tensor:
    """Return a weight as ``(O, B, block_size)`` float32, the last block of a row filled up with zeros."""
    padding = block_format.num_blocks(weight.shape[1]) * block_format.block_size - weight.shape[1]
    padded = nn.functional.pad(weight.detach().float(), (0, padding))
    return padded.view(len(weight), -1, block_format.block_size)


def blocks_to_fit(weight: Tensor, block_format: BlockFormat, *, method: str) -> Tensor:
    """Return a weight as :func:`in_blocks` does, for a method that fits zero points.

    Raises:
        UsageError: for a symmetric format: it has no zero points to fit.
        ModelError: for weights that are not finite.
    """
    if block_format.symmetric:
        raise UsageError(f"{method} fits zero points, a symmetric format has none", fix="Take a format with zero points")
    if not weight.isfinite().all():
        raise _not_finite()
    return in_blocks(weight, block_format)


def block_scales(blocks: Tensor, block_format: BlockFormat) -> tuple[Tensor, Tensor]:
    """Return scales and zero points as onnxruntime chooses them.

    Args:
        blocks: ``(..., block_size)`` float32.

    Returns: both ``(...)`` float32; zero points are whole numbers, the middle of the range where the format has none.
    """
    lowest, highest = blocks.aminmax(dim=-1)
    if block_format.symmetric:
        scales = torch.where(highest.abs() > lowest.abs(), highest, lowest) / -block_format.middle
        return scales, torch.full_like(scales, block_format.middle)
    lowest, highest = lowest.clamp(max=0.0), highest.clamp(min=0.0)
    scales = (highest - lowest) / block_format.max_code
    points = torch.where(scales == 0, 0.0, -lowest / scales)
    return scales, half_away_from_zero(points).clamp_(0, block_format.max_code)


def nearest_codes(blocks: Tensor, scales: Tensor, zero_points: Tensor, block_format: BlockFormat) -> Tensor:
    """Return the codes nearest to the weights: ``(..., block_size)`` and two ``(...)`` -> ``(..., block_size)`` uint8."""
    # The product with the reciprocal, not a division: the two differ in the last bit, and now and then in the code.
    reciprocal = torch.where(scales == 0, 0.0, scales.reciprocal())
    position = (blocks * reciprocal.unsqueeze(-1)).add_(zero_points.unsqueeze(-1))
    return half_away_from_zero(position).clamp_(0, block_format.max_code).to(torch.uint8)


def half_away_from_zero(position: Tensor) -> Tensor:
    """Round as C's ``roundf`` does for numbers that are at least 0; below, the codes are cut off at 0 anyway."""
    whole = position.floor()
    return whole.add_((position - whole) >= 0.5)


def _clear_padding(codes: Tensor, num_inputs: int, block_format: BlockFormat) -> None:
    """Whole bytes beyond the last input are 0, as the quantizer leaves them."""
    whole_bytes = num_inputs if block_format.bits == 8 else num_inputs + num_inputs % 2
    codes.flatten(1)[:, whole_bytes:] = 0


def _not_finite() -> ModelError:
    return ModelError("the model has weights that are not finite numbers, so it can't be quantized", fix="Name another model.")
