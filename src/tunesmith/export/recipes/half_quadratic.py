"""HQQ: grids fitted to the weights alone, with an error that forgives outliers (Badri and Shaji 2023, "Half-Quadratic Quantization of
Large Machine Learning Models", https://mobiusml.github.io/hqq_blog/).

Legend: O outputs, I inputs, B blocks of a row, S weights of a block.

The zero points that come out are whole numbers of the format's bits. The operator takes floating ones too, but on the CPU onnxruntime
(1.32) then unpacks the whole matrix for every token, which is 70 times as slow.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tunesmith.export.recipes.blocks import BlockFormat, Blocks
from tunesmith.export.recipes.rounding import block_scales, blocks_to_fit, nearest_codes
from tunesmith.methods.grid import chunks

#: Norm of the error, weight of the half-quadratic term and how it grows: those of the authors' code.
_NORM, _BETA, _GROWTH = 0.7, 10.0, 1.01
#: Steps that fit the zero points, then steps that fit the scales to zero points that are whole.
_STEPS = 10
_CHUNK_WEIGHTS = 1 << 18


def half_quadratic(weight: Tensor, block_format: BlockFormat) -> Blocks:
    """Round a weight to grids that leave a small ``sum(|w - q|^0.7)``.

    In turn, ``e = shrink(w - q)`` splits what is off into outliers and the rest, and zero points ``z = mean(c - (w - e) / s)`` are set
    where the rest is least; then they are rounded to whole numbers and the scales are fitted in the same way by least squares. Of all
    grids that were met, each block keeps the best of those that leave no larger squared error than round-to-nearest. A model of 135M, tuned
    on banking77, lost more by it than by rounding to the nearest all the same (KL 0.058 against 0.036).

    Args:
        weight: ``(O, I)``.
        block_format: with zero points.

    Raises:
        UsageError: for a symmetric format: it has no zero points to fit.
        ModelError: for weights that are not finite.
    """
    blocks = blocks_to_fit(weight, block_format, method="half-quadratic quantization")
    codes, scales = torch.empty(blocks.shape, dtype=torch.uint8), torch.empty(blocks.shape[:2])
    points = torch.empty(blocks.shape[:2])
    for rows in chunks(len(blocks), blocks[0].numel(), _CHUNK_WEIGHTS):
        scales[rows], points[rows] = _fitted(blocks[rows], block_format)
        codes[rows] = nearest_codes(blocks[rows], scales[rows], points[rows], block_format)
    return Blocks(block_format, codes, scales, points.to(torch.uint8), weight.shape[1])


def _fitted(blocks: Tensor, block_format: BlockFormat) -> tuple[Tensor, Tensor]:
    """Return scales and whole zero points: ``(O, B, S)`` -> two ``(O, B)``."""
    scales, points = (found.unsqueeze(-1) for found in block_scales(blocks, block_format))
    best = _Best(blocks, block_format, scales, points)
    # the penalty is on weights as large as a language model's are; ours are brought there, so that any other size fits as well
    size = blocks.abs().mean(dim=-1, keepdim=True).clamp(min=1e-30)
    beta, start = _BETA, points
    for _ in range(_STEPS):
        codes, rest = _split(blocks, scales, points, block_format, beta, size)
        points = (codes - _over(rest, scales)).mean(dim=-1, keepdim=True)
        beta *= _GROWTH
    points = points.round().clamp_(0, block_format.max_code)
    for candidate in (points, start):
        fitted = scales
        for _ in range(_STEPS // 2):
            codes, rest = _split(blocks, fitted, candidate, block_format, beta, size)
            steps = codes - candidate
            squares = steps.square().sum(dim=-1, keepdim=True)
            fitted = torch.where(squares > 0, (rest * steps).sum(dim=-1, keepdim=True) / squares, fitted)
            best.offer(fitted, candidate)
    return best.scales.squeeze(-1), best.points.squeeze(-1)


def _split(blocks: Tensor, scales: Tensor, points: Tensor, block_format: BlockFormat, beta: float, size: Tensor) -> tuple[Tensor, Tensor]:
    """Return the nearest codes, and the weights without what counts as outliers."""
    codes = (_over(blocks, scales) + points).round_().clamp_(0, block_format.max_code)
    error = (blocks - (codes - points) * scales) / size
    magnitude = error.abs()
    shrunk = error.sign() * (magnitude - (magnitude + 1e-8).pow(_NORM - 1) / beta).clamp_(min=0)
    return codes, blocks - shrunk * size


def _over(values: Tensor, scales: Tensor) -> Tensor:
    return values * torch.where(scales == 0, 0.0, scales.reciprocal())


class _Best:
    """The grid of each block with the least error so far, of those whose squared error is not above the first one's."""

    def __init__(self, blocks: Tensor, block_format: BlockFormat, scales: Tensor, points: Tensor) -> None:
        self._blocks, self._format = blocks, block_format
        self.scales, self.points = scales, points
        self._error, self._most_squared = self._errors_of(scales, points)

    def offer(self, scales: Tensor, points: Tensor) -> None:
        """Take a grid where it is better."""
        error, squared = self._errors_of(scales, points)
        better = (error < self._error) & (squared <= self._most_squared)
        self._error = torch.where(better, error, self._error)
        self.scales, self.points = torch.where(better, scales, self.scales), torch.where(better, points, self.points)

    def _errors_of(self, scales: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        """The error that is made small, and the squared one."""
        codes = (_over(self._blocks, scales) + points).round_().clamp_(0, self._format.max_code)
        off = (self._blocks - (codes - points) * scales).abs_()
        return off.pow(_NORM).sum(dim=-1, keepdim=True), off.square().sum(dim=-1, keepdim=True)
