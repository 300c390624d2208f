"""The k-quants of llama.cpp as onnxruntime has them: scale and zero point of a block by weighted least squares."""

from __future__ import annotations

import torch
from torch import Tensor

from tunesmith.errors import DependencyError
from tunesmith.export.recipes.blocks import BlockFormat, Blocks
from tunesmith.export.recipes.rounding import blocks_to_fit, round_to_nearest
from tunesmith.methods.grid import chunks

_CHUNK_WEIGHTS = 1 << 20


def k_quant(weight: Tensor, block_format: BlockFormat) -> Blocks:
    """Round a weight as onnxruntime's ``k_quant`` does, which is what the model builder calls by that name.

    Blocks whose weights are all the same are rounded to the nearest: the function finds no scale for them.

    Args:
        weight: ``(O, I)``.
        block_format: with zero points.

    Raises:
        UsageError: for a symmetric format: it has no zero points to fit.
        ModelError: for weights that are not finite.
        DependencyError: without onnxruntime and onnx.
    """
    blocks = blocks_to_fit(weight, block_format, method="k_quant").flatten(0, 1)
    codes, scales, points = (
        torch.empty(blocks.shape, dtype=torch.uint8),
        torch.empty(len(blocks)),
        torch.empty(len(blocks), dtype=torch.uint8),
    )
    for rows in chunks(len(blocks), block_format.block_size, _CHUNK_WEIGHTS):
        codes[rows], scales[rows], points[rows] = _of_onnxruntime(blocks[rows], block_format)
    plain = round_to_nearest(blocks, block_format)
    assert plain.zero_points is not None
    same = blocks.amin(dim=-1) == blocks.amax(dim=-1)
    codes[same], scales[same], points[same] = plain.codes[same, 0], plain.scales[same, 0], plain.zero_points[same, 0]
    shape = len(weight), block_format.num_blocks(weight.shape[1])
    return Blocks(block_format, codes.view(*shape, -1), scales.view(shape), points.view(shape), weight.shape[1])


def _of_onnxruntime(blocks: Tensor, block_format: BlockFormat) -> tuple[Tensor, Tensor, Tensor]:
    """``(B, S)`` -> codes, scales and zero points ``(B)``."""
    try:
        import numpy as np
        from onnxruntime.quantization.neural_compressor.weight_only import quant_tensor_k_quant_cpu
    except ImportError as error:
        raise DependencyError(error.name or "onnxruntime", "cpu", purpose="the recipe k_quant") from error
    with np.errstate(divide="ignore", invalid="ignore"):  # blocks of equal weights, see above
        codes, scales, points = quant_tensor_k_quant_cpu(blocks.numpy(), block_format.bits, block_format.block_size)
    return torch.from_numpy(codes).to(torch.uint8), torch.from_numpy(scales[:, 0]).float(), torch.from_numpy(points[:, 0])
