"""Scales that cut off a little of a block's range, where that leaves less error than reaching its extreme.

Legend: S inputs of a block; what stands before it in a shape is free.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tunesmith.export.recipes.blocks import BlockFormat
from tunesmith.export.recipes.rounding import block_scales, half_away_from_zero

#: Parts of the scale that reaches the extreme of a block. The whole comes first: what lies on the grid stays what it is.
_SHRINKS = (1.0, 0.96, 0.92, 0.88, 0.84, 0.8, 0.76, 0.72)


def least_error_scales(blocks: Tensor, block_format: BlockFormat, importance: Tensor) -> tuple[Tensor, Tensor]:
    """Return the scales and zero points, of those that cut off a part of the range, with the least weighted squared error.

    Args:
        blocks: ``(..., S)`` float32; fewer than a whole block where the last inputs end.
        block_format: bits and zero points.
        importance: weights of the squared errors, ``(S,)`` or as ``blocks``.

    Returns: both ``(...)`` float32, zero points as whole numbers.
    """
    widest, widest_points = block_scales(blocks, block_format)
    best_scales, best_points = widest, widest_points
    least = torch.full_like(widest, torch.inf)
    for shrink in _SHRINKS:
        scales = widest * shrink
        points = widest_points if block_format.symmetric else _points_for(blocks, scales, block_format)
        errors = (_nearest(blocks, scales, points, block_format) - blocks).square_().mul_(importance).sum(dim=-1)
        better = errors < least
        least = torch.where(better, errors, least)
        best_scales, best_points = torch.where(better, scales, best_scales), torch.where(better, points, best_points)
    return best_scales, best_points


def _points_for(blocks: Tensor, scales: Tensor, block_format: BlockFormat) -> Tensor:
    """Zero points that cut off the same at both ends: the middle of the range keeps its place."""
    lowest, highest = blocks.aminmax(dim=-1)
    middle = (lowest.clamp(max=0.0) + highest.clamp(min=0.0)) / 2
    points = torch.where(scales == 0, 0.0, block_format.max_code / 2 - middle / scales)
    return half_away_from_zero(points).clamp_(0, block_format.max_code)


def _nearest(blocks: Tensor, scales: Tensor, points: Tensor, block_format: BlockFormat) -> Tensor:
    reciprocal = torch.where(scales == 0, 0.0, scales.reciprocal()).unsqueeze(-1)
    codes = (blocks * reciprocal).add_(points.unsqueeze(-1)).add_(0.5).floor_().clamp_(0, block_format.max_code)
    return codes.sub_(points.unsqueeze(-1)).mul_(scales.unsqueeze(-1))
