"""GPTQ: rounding that makes up for what it has lost (Frantar et al. 2022, "GPTQ: Accurate Post-Training Quantization for Generative
Pre-trained Transformers", https://arxiv.org/abs/2210.17323).

Legend: O outputs, I inputs, C columns worked on at once. Everything is held transposed, ``(I, O)``, so that an input's weights are a row.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tunesmith.errors import ModelError, ShapeError
from tunesmith.export.recipes.blocks import BlockFormat, Blocks
from tunesmith.export.recipes.rounding import in_blocks
from tunesmith.export.recipes.scales import least_error_scales
from tunesmith.methods.grid import chunks

#: Inputs whose effect on all later ones is put off and computed in one product (section 3.3, step 2).
_LAZY_INPUTS = 128
#: Outputs worked on at once: their weights of `_LAZY_INPUTS` stay near the processor.
_CHUNK_OUTPUTS = 4096


def gptq(weight: Tensor, block_format: BlockFormat, gram: Tensor, *, damping: float = 0.01, activation_order: bool = False) -> Blocks:
    """Round a weight input by input, each time moving the later ones to where they make up for the error.

    With ``H = gram + damping * mean(diag(gram)) * 1`` and ``U`` the upper Cholesky factor of its inverse, input ``i`` with error
    ``e = (w_i - q_i) / U_ii`` moves the later ones by ``-e U_ij``. This lowers ``tr((W - Q) H (W - Q)^T)``. A block's scale is chosen when
    the first of its inputs is reached, from its weights as they are then: the part of the RTN scale that leaves the least
    ``sum(((w - q) / U_ii)^2)``; a weight that lies on the grid stays what it is.

    Args:
        weight: ``(O, I)``.
        block_format: bits, block size, zero points.
        gram: ``X^T X`` of what goes into the layer, ``(I, I)``.
        damping: part of the mean of the diagonal that is added to it.
        activation_order: begin with the inputs that are largest; scales are then those of the weights before anything is moved.

    Raises:
        ShapeError: when the two don't fit together.
        ModelError: for values that are not finite.
    """
    if weight.dim() != 2 or gram.shape != (weight.shape[1], weight.shape[1]):
        raise ShapeError(f"a Gram matrix {tuple(gram.shape)} doesn't fit a weight {tuple(weight.shape)}")
    if not (weight.isfinite().all() and gram.isfinite().all()):
        raise ModelError("a layer has weights or inputs that are not finite numbers, so it can't be quantized", fix="Name another model.")
    num_inputs = weight.shape[1]
    order = gram.diagonal().argsort(descending=True) if activation_order else torch.arange(num_inputs)
    factor = _inverse_factor(gram[order][:, order], damping)
    codes = torch.zeros(len(weight), block_format.num_blocks(num_inputs) * block_format.block_size, dtype=torch.uint8)
    scales = torch.zeros(len(weight), block_format.num_blocks(num_inputs))
    points = torch.full_like(scales, block_format.middle)
    for rows in chunks(len(weight), 1, _CHUNK_OUTPUTS):
        part = _Part(weight[rows], block_format, factor, order, choose_first=activation_order)
        codes[rows, :num_inputs], scales[rows], points[rows] = part.rounded()
    zero_points = None if block_format.symmetric else points.to(torch.uint8)
    return Blocks(block_format, codes.view(len(weight), -1, block_format.block_size), scales, zero_points, num_inputs)


def quantization_loss(weight: Tensor, values: Tensor, gram: Tensor) -> float:
    """Return ``tr((W - Q) G (W - Q)^T)``: the squared error of a layer's outputs, summed over the positions that ``G`` was made of."""
    error = weight.detach().float() - values
    return float(((error @ gram) * error).sum())


class _Part:
    """Some rows of a weight on their way to the grid."""

    def __init__(self, weight: Tensor, block_format: BlockFormat, factor: Tensor, order: Tensor, *, choose_first: bool) -> None:
        self._weight = weight.detach().float().t()[order].contiguous()  # (I, O), moved as errors are made up for
        self._format, self._factor, self._order = block_format, factor, order
        shape = (block_format.num_blocks(weight.shape[1]), len(weight))
        self._scales, self._points = torch.zeros(shape), torch.full(shape, float(block_format.middle))
        self._reciprocals, self._shifts = torch.zeros(shape), torch.zeros(shape)  # of a block's rounding, computed once
        self._codes = torch.zeros(weight.shape[1], len(weight), dtype=torch.uint8)
        self._choose_first = choose_first
        if choose_first:
            importance = torch.empty(len(order)).scatter_(0, order, factor.diagonal().reciprocal().square())
            blocks = in_blocks(weight, block_format).transpose(0, 1)
            for number, block in enumerate(blocks):
                start = number * block_format.block_size
                self._choose(number, block[:, : weight.shape[1] - start].t(), importance[start : start + block_format.block_size])

    def rounded(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return codes ``(O, I)``, scales and zero points ``(O, B)``."""
        num_inputs, lazy = len(self._weight), max(_LAZY_INPUTS, self._format.block_size)
        for start in range(0, num_inputs, lazy):
            end = min(start + lazy, num_inputs)
            errors = self._round_inputs(start, end)
            self._weight[end:].addmm_(self._factor[start:end, end:].t(), errors, alpha=-1)
        codes = torch.empty_like(self._codes)
        codes[self._order] = self._codes
        return codes.t(), self._scales.t(), self._points.t()

    def _round_inputs(self, start: int, end: int) -> Tensor:
        """Round inputs ``start`` to ``end``, moving those among them that come later; return the errors ``(C, O)``."""
        errors = torch.empty(end - start, self._weight.shape[1])
        size = self._format.block_size
        for place in range(start, end):
            if not self._choose_first and place % size == 0:
                stop = min(place + size, end)
                self._choose(place // size, self._weight[place:stop], self._factor.diagonal()[place:stop].reciprocal().square())
            block = int(self._order[place]) // size
            value = self._round(place, block)
            error = torch.sub(self._weight[place], value, out=errors[place - start]).div_(self._factor[place, place])
            self._weight[place + 1 : end].addr_(self._factor[place, place + 1 : end], error, alpha=-1)
        return errors

    def _round(self, place: int, block: int) -> Tensor:
        """Set the codes of one input and return their values ``(O,)``."""
        codes = torch.addcmul(self._shifts[block], self._weight[place], self._reciprocals[block]).floor_().clamp_(0, self._format.max_code)
        self._codes[place] = codes
        return codes.sub_(self._points[block]).mul_(self._scales[block])

    def _choose(self, block: int, weights: Tensor, importance: Tensor) -> None:
        """Set scale and zero point of a block: ``(block_size, O)``, importance ``(block_size,)``."""
        scales, points = least_error_scales(weights.t(), self._format, importance)
        self._scales[block], self._points[block] = scales, points
        self._reciprocals[block], self._shifts[block] = torch.where(scales == 0, 0.0, scales.reciprocal()), points + 0.5


def _inverse_factor(gram: Tensor, damping: float) -> Tensor:
    """Return the upper Cholesky factor ``U`` of the inverse of the damped Gram matrix, ``H^-1 = U^T U``, float32; computed in float64.

    With the order of the inputs turned round, ``H = L L^T`` gives it as the inverse of ``L``, turned back: one factorization, not two. An
    input that was never anything but zero is rounded on its own. Where the matrix is not positive definite for all its damping, ten times
    as much is added until it is.
    """
    hessian = gram.double().flip(0, 1)
    mean = float(hessian.diagonal().mean()) or 1.0
    one = torch.eye(len(hessian), dtype=torch.float64)
    while True:
        lower, failed = torch.linalg.cholesky_ex(hessian + damping * mean * one)
        if not failed:
            inverse: Tensor = torch.linalg.solve_triangular(lower, one, upper=False)
            return inverse.flip(0, 1).float().contiguous()
        damping = max(damping, 1e-6) * 10
