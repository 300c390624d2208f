"""The grids that ship: quantize, pack and dequantize exactly as onnxruntime-genai's model builder does at ``-p int4`` and ``-p int8``.

Legend: O outputs, I inputs, B blocks of 32 inputs (the last one padded), so that a weight is ``(O, I)`` and its scales ``(O, B)`` float32.
Packed codes of 4 bits are ``(O, B, 16)`` uint8, two a byte, the lower one first; of 8 bits ``(O, B, 32)`` uint8, one a byte. A value is
``(code - z) * scale`` with ``z`` the middle of the range, 8 or 128: symmetric, codes 0 to 15 or 0 to 255.

This is the layout and the arithmetic of the operator ``MatMulNBits`` (bits 4 or 8, block_size 32, no zero points) and of the quantizer
behind it, ``quantize_matmul_4bits`` and ``_8bits`` of onnxruntime, bit for bit (tested against it): what is trained on these values is
what runs there.
"""

from __future__ import annotations

import functools
from typing import Literal

import torch
from torch import Tensor, nn

from tunesmith.errors import ModelError, ShapeError

BLOCK_SIZE = 32
ZERO_POINT = 8
MAX_CODE = 15
Bits = Literal[4, 8]
#: Weights that are worked on at once: their temporaries stay in the processor's cache, which is three times as fast as memory here.
_CHUNK_WEIGHTS = 1 << 17


def quantize(weight: Tensor, bits: Bits = 4) -> tuple[Tensor, Tensor]:
    """Round a weight to the nearest values of its grid.

    The value of largest magnitude in a block, ``m``, gets code 0, so ``scale = m / -z``, negative where ``m`` is positive; of ``m`` and
    ``-m`` in one block the negative one counts. Then ``code = clamp(round(w * (1 / scale) + z), 0, 2z - 1)``, halves away from zero; a
    block of zeros has scale 0 and codes z. Values on the grid quantize to themselves: ``quantize(dequantize(*quantize(w))) ==
    quantize(w)``.

    Args:
        weight: ``(O, I)``, converted to float32.
        bits: of a code.

    Returns: packed codes ``(O, B, 16)`` (8 bits: ``(O, B, 32)``) uint8, scales ``(O, B)`` float32. Whole bytes beyond the last input are 0.
    Raises:
        ShapeError: for anything that is not a matrix.
        ModelError: for weights that are not finite.
    """
    if weight.dim() != 2:
        raise ShapeError(f"only matrices can be put on the int{bits} grid, found a tensor of shape {tuple(weight.shape)}")
    weight, (num_outputs, num_inputs) = weight.detach(), weight.shape
    num_blocks = -(-num_inputs // BLOCK_SIZE)
    packed = torch.empty(num_outputs, num_blocks, BLOCK_SIZE * bits // 8, dtype=torch.uint8, device=weight.device)
    scales = torch.empty(num_outputs, num_blocks, dtype=torch.float32, device=weight.device)
    padding = num_blocks * BLOCK_SIZE - num_inputs
    for rows in chunks(num_outputs, num_inputs, _CHUNK_WEIGHTS):
        blocks = nn.functional.pad(weight[rows].float(), (0, padding)).view(-1, num_blocks, BLOCK_SIZE)
        scales[rows] = _scales(blocks, _middle(bits))
        codes = _codes(blocks, scales[rows], _middle(bits))
        packed[rows] = pack(codes) if bits == 4 else codes
    if not scales.isfinite().all():
        raise ModelError("the base model has weights that are not finite numbers, so it can't be quantized", fix="Name another model.")
    packed.flatten(1)[:, -(-num_inputs * bits // 8) :] = 0
    return packed, scales


def dequantize(packed: Tensor, scales: Tensor, num_inputs: int, dtype: torch.dtype) -> Tensor:
    """Return the values ``(code - z) * scale``, ``(O, I)``.

    The product is rounded to float32, and that to ``dtype``: in bfloat16 it is what a float32 copy of these weights becomes, converted.

    Args:
        packed: ``(O, B, 16)`` uint8, or ``(O, B, 32)`` of 8 bits.
        scales: ``(O, B)`` float32.
        num_inputs: ``I``, to cut the padding of the last block.
        dtype: of the result.
    """
    num_outputs, num_blocks = scales.shape
    values = torch.empty(num_outputs, num_blocks, BLOCK_SIZE, dtype=dtype, device=packed.device)
    for rows in chunks(num_outputs, num_blocks * BLOCK_SIZE, _CHUNK_WEIGHTS):
        signed = _signed(packed[rows]).view(-1, num_blocks, BLOCK_SIZE)
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


def bits_of(packed: Tensor) -> Bits:
    """Return the bits of a code, from the bytes of a block."""
    return 4 if packed.shape[-1] == BLOCK_SIZE // 2 else 8


def _middle(bits: Bits) -> int:
    """The code of zero."""
    return 1 << (bits - 1)


def _scales(blocks: Tensor, middle: int) -> Tensor:
    """``(O, B, 32)`` -> ``(O, B)``."""
    lowest, highest = blocks.aminmax(dim=-1)
    return torch.where(highest.abs() > lowest.abs(), highest, lowest) / -middle


def _codes(blocks: Tensor, scales: Tensor, middle: int) -> Tensor:
    """``(O, B, 32)`` -> ``(O, B, 32)`` uint8."""
    # The product with the reciprocal, not a division: the two differ in the last bit, and now and then in the code.
    reciprocal = torch.where(scales == 0, 0.0, scales.reciprocal())
    position = (blocks * reciprocal.unsqueeze(-1)).add_(middle)
    # torch.round takes halves to even; C's roundf, which the quantizer calls, away from zero. Below 0 the two agree after clamping.
    whole = position.floor()
    return whole.add_((position - whole) >= 0.5).clamp_(0, 2 * middle - 1).to(torch.uint8)


def _signed(packed: Tensor) -> Tensor:
    """Codes less the middle, float32, in one row."""
    if bits_of(packed) == 8:
        return packed.flatten().to(torch.float32).sub_(_middle(8))
    return _two_codes(packed.device).index_select(0, packed.to(torch.int32).flatten()).view(torch.float32)


@functools.cache
def _two_codes(device: torch.device) -> Tensor:
    """Table from a packed byte to the two float32 ``code - 8`` in it, as one int64: ``(256,)``, 2 KB.

    The fastest way found inside a training step, where every product before has emptied the cache: 1 to 2.5 ns a weight on one core. Four
    codes at once (512 KB of table) are twice as fast as long as the table stays in the cache, and half as fast in a step.
    """
    every_byte = torch.arange(256, dtype=torch.int32).to(torch.uint8).unsqueeze(-1)
    return (unpack(every_byte).to(torch.float32) - ZERO_POINT).view(torch.int64).flatten().to(device)
