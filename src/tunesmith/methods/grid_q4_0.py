"""The q4_0 grid of GGUF: quantize exactly as ggml does, so that what is trained on these values is what llama.cpp runs.

Legend as in :mod:`tunesmith.methods.grid`, whose layout and dequantization serve here too: O outputs, I inputs, B blocks of 32 inputs. The
two grids differ in three places: scales are rounded to float16, codes are made with the scale before that, and of ``m`` and ``-m`` in one
block the first counts. Tested bit for bit against ``gguf.quants``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tunesmith.errors import ModelError, ShapeError
from tunesmith.methods.grid import BLOCK_SIZE, MAX_CODE, ZERO_POINT, pack


def quantize(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Round a weight to the nearest values of its grid.

    With ``m`` the value of largest magnitude in a block, ``d = m / -8`` and ``code = min(trunc(w * (1 / d) + 8.5), 15)``; the scale is
    ``d`` as float16. Values on the grid quantize to themselves.

    Args:
        weight: ``(O, I)``, converted to float32; ``I`` is a multiple of 32.

    Returns: packed codes ``(O, B, 16)`` uint8, two a byte, the lower one first, and scales ``(O, B)`` float32 that float16 holds.
    Raises:
        ShapeError: for anything that is not a matrix.
        ModelError: for rows that are no whole blocks, and weights that are not finite or too large for float16 scales.
    """
    if weight.dim() != 2:
        raise ShapeError(f"only matrices can be put on the q4_0 grid, found a tensor of shape {tuple(weight.shape)}")
    if weight.shape[1] % BLOCK_SIZE:
        message = f"a layer of this model has {weight.shape[1]} inputs, and q4_0 packs blocks of {BLOCK_SIZE}"
        raise ModelError(message, fix="Use --quant_type onnx-int4 or nf4")
    blocks = weight.detach().float().reshape(len(weight), -1, BLOCK_SIZE)  # (O, B, 32)
    extreme = blocks.gather(-1, blocks.abs().argmax(dim=-1, keepdim=True))
    steps = extreme / -ZERO_POINT  # (O, B, 1)
    position = (blocks * torch.where(steps == 0, 0.0, steps.reciprocal())).add_(ZERO_POINT + 0.5)
    codes = position.nan_to_num_(ZERO_POINT).clamp_(0, MAX_CODE).to(torch.uint8)
    scales = steps.squeeze(-1).half().float()
    if not scales.isfinite().all():
        raise ModelError("the base model has weights that are not finite, or too large for float16 scales", fix="Use --quant_type nf4")
    return pack(codes), scales
