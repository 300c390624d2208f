"""The int4 grid that ships: quantize, pack and dequantize exactly as onnxruntime-genai's model builder does at ``-p int4``.

Legend: O outputs, I inputs, B blocks of 32 inputs (the last one padded), so that a weight is ``(O, I)``, its scales ``(O, B)`` float32 and
its packed codes ``(O, B, 16)`` uint8, two codes a byte, the lower one first. A value is ``(code - 8) * scale``: symmetric, codes 0 to 15.

This is the layout and the arithmetic of the operator ``MatMulNBits`` (bits 4, block_size 32, no zero points) and of the quantizer behind
it, ``quantize_matmul_4bits`` of onnxruntime, bit for bit (tested against it): what is trained on these values is what runs there.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

from tunesmith.errors import ModelError, ShapeError

BLOCK_SIZE = 32
ZERO_POINT = 8
MAX_CODE = 15
#: Weights that are worked on at once: their temporaries stay in the processor's cache, which is three times as fast as memory here.
_CHUNK_WEIGHTS = 1 << 17


def quantize(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Round a weight to the nearest values of its grid.

    The value of largest magnitude in a block, ``m``, gets code 0, so ``scale = m / -8``, negative where ``m`` is positive; of ``m`` and
    ``-m`` in one block the negative one counts. Then ``code = clamp(round(w * (1 / scale) + 8), 0, 15)``, halves away from zero; a block
    of zeros has scale 0 and codes 8. Values on the grid quantize to themselves: ``quantize(dequantize(*quantize(w))) == quantize(w)``.

    Args:
        weight: ``(O, I)``, converted to float32.

    Returns: packed codes ``(O, B, 16)`` uint8 and scales ``(O, B)`` float32. Whole bytes beyond the last input are 0.
    Raises:
        ShapeError: for anything that is not a matrix.
        ModelError: for weights that are not finite.
    """
    if weight.dim() != 2:
        raise ShapeError(f"only matrices can be put on the int4 grid, found a tensor of shape {tuple(weight.shape)}")
    weight, (num_outputs, num_inputs) = weight.detach(), weight.shape
    num_blocks = -(-num_inputs // BLOCK_SIZE)
    packed = torch.empty(num_outputs, num_blocks, BLOCK_SIZE // 2, dtype=torch.uint8, device=weight.device)
    scales = torch.empty(num_outputs, num_blocks, dtype=torch.float32, device=weight.device)
    padding = num_blocks * BLOCK_SIZE - num_inputs
    for rows in chunks(num_outputs, num_inputs, _CHUNK_WEIGHTS):
        blocks = nn.functional.pad(weight[rows].float(), (0, padding)).view(-1, num_blocks, BLOCK_SIZE)
        scales[rows] = _scales(blocks)
        packed[rows] = pack(_codes(blocks, scales[rows]))
    if not scales.isfinite().all():
        raise ModelError("the base model has weights that are not finite numbers, so it can't be quantized", fix="Name another model.")
    packed.flatten(1)[:, -(-num_inputs // 2) :] = 0
    return packed, scales


def dequantize(packed: Tensor, scales: Tensor, num_inputs: int, dtype: torch.dtype) -> Tensor:
    """Return the values ``(code - 8) * scale``, ``(O, I)``.

    The product is rounded to float32, and that to ``dtype``: in bfloat16 it is what a float32 copy of these weights becomes, converted.

    Args:
        packed: ``(O, B, 16)`` uint8.
        scales: ``(O, B)`` float32.
        num_inputs: ``I``, to cut the padding of the last block.
        dtype: of the result.
    """
    num_outputs, num_blocks = scales.shape
    values = torch.empty(num_outputs, num_blocks, BLOCK_SIZE, dtype=dtype, device=packed.device)
    table = _two_codes(packed.device)
    for rows in chunks(num_outputs, num_blocks * BLOCK_SIZE, _CHUNK_WEIGHTS):
        signed = table.index_select(0, packed[rows].to(torch.int32).flatten()).view(torch.float32).view(-1, num_blocks, BLOCK_SIZE)
        values[rows] = signed.mul_(scales[rows].unsqueeze(-1))
    return values.flatten(1)[:, :num_inputs]


def pack(codes: Tensor) -> Tensor:
    """Return two codes a byte, the lower one first: ``(..., 32)`` uint8 -> ``(..., 16)`` uint8."""
    return codes[..., 0::2] | (codes[..., 1::2] << 4)


def unpack(packed: Tensor) -> Tensor:
    """Return the codes 0 to 15: ``(..., 16)`` uint8 -> ``(..., 32)`` uint8."""
    return torch.stack((packed & MAX_CODE, packed >> 4), dim=-1).flatten(-2)


def chunks(num_rows: int, row_length: int, num_weights: int) -> list[slice]:
    """Return slices that cover ``num_rows`` rows, of about ``num_weights`` weights each and at least one row."""
    step = max(1, num_weights // max(row_length, 1))
    return [slice(start, start + step) for start in range(0, num_rows, step)]


def _scales(blocks: Tensor) -> Tensor:
    """``(O, B, 32)`` -> ``(O, B)``."""
    lowest, highest = blocks.aminmax(dim=-1)
    return torch.where(highest.abs() > lowest.abs(), highest, lowest) / -ZERO_POINT


def _codes(blocks: Tensor, scales: Tensor) -> Tensor:
    """``(O, B, 32)`` -> ``(O, B, 32)`` uint8."""
    # The product with the reciprocal, not a division: the two differ in the last bit, and now and then in the code.
    reciprocal = torch.where(scales == 0, 0.0, scales.reciprocal())
    position = (blocks * reciprocal.unsqueeze(-1)).add_(ZERO_POINT)
    # torch.round takes halves to even; C's roundf, which the quantizer calls, away from zero. Below 0 the two agree after clamping.
    whole = position.floor()
    return whole.add_((position - whole) >= 0.5).clamp_(0, MAX_CODE).to(torch.uint8)


@functools.cache
def _two_codes(device: torch.device) -> Tensor:
    """Table from a packed byte to the two float32 ``code - 8`` in it, as one int64: ``(256,)``, 2 KB.

    The fastest way found inside a training step, where every product before has emptied the cache: 1 to 2.5 ns a weight on one core. Four
    codes at once (512 KB of table) are twice as fast as long as the table stays in the cache, and half as fast in a step.
    """
    every_byte = torch.arange(256, dtype=torch.int32).to(torch.uint8).unsqueeze(-1)
    return (unpack(every_byte).to(torch.float32) - ZERO_POINT).view(torch.int64).flatten().to(device)
