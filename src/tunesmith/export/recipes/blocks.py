"""Weights in blocks of few bits, as the operator ``MatMulNBits`` takes them.

Legend: O outputs, I inputs, B blocks of a row (the last one padded). A value is ``(code - zero point) * scale``, one scale and one zero
point a block; without zero points, the middle of the range stands for zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor

from tunesmith.errors import ShapeError, UsageError

Bits = Literal[4, 8]
BlockSize = Literal[16, 32, 64, 128, 256]
BITS: tuple[Bits, ...] = (4, 8)
BLOCK_SIZES: tuple[BlockSize, ...] = (16, 32, 64, 128, 256)
_SCALE_BYTES = 4


@dataclass(frozen=True)
class BlockFormat:
    """How weights are stored.

    Attributes:
        bits: of a code.
        block_size: inputs that share a scale.
        symmetric: whether every block's zero is the middle of the range; else each has a zero point of its own.

    Raises:
        UsageError: for bits or a block size that the operator doesn't have.
    """

    bits: Bits
    block_size: BlockSize
    symmetric: bool

    def __post_init__(self) -> None:
        if self.bits not in BITS:
            raise UsageError(f"weights of {self.bits} bits can't be stored in blocks; there are: {', '.join(map(str, BITS))}")
        if self.block_size not in BLOCK_SIZES:
            raise UsageError(f"blocks of {self.block_size} weights are not known; there are: {', '.join(map(str, BLOCK_SIZES))}")

    @property
    def max_code(self) -> int:
        """The largest code."""
        return (1 << self.bits) - 1

    @property
    def middle(self) -> int:
        """The code of zero where no zero point is stored."""
        return 1 << (self.bits - 1)

    @property
    def name(self) -> str:
        """Short words for tables: ``int4, blocks of 32``."""
        return f"int{self.bits}, blocks of {self.block_size}" + ("" if self.symmetric else ", zero points")

    def num_blocks(self, num_inputs: int) -> int:
        """Blocks of a row."""
        return -(-num_inputs // self.block_size)

    def bytes_for(self, num_outputs: int, num_inputs: int) -> int:
        """Bytes that a matrix takes in a file: codes, float32 scales, and packed zero points where there are any."""
        blocks = self.num_blocks(num_inputs)
        zero_points = 0 if self.symmetric else -(-blocks * self.bits // 8)
        return num_outputs * (blocks * (self.block_size * self.bits // 8 + _SCALE_BYTES) + zero_points)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"bits": self.bits, "block_size": self.block_size, "symmetric": self.symmetric}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> BlockFormat:
        """Read what :meth:`to_dict` wrote.

        Raises:
            UsageError: for values that no format has.
        """
        bits, block_size = cast("Bits", int(values["bits"])), cast("BlockSize", int(values["block_size"]))
        return cls(bits=bits, block_size=block_size, symmetric=bool(values["symmetric"]))


@dataclass(frozen=True, eq=False)
class Blocks:
    """One matrix in blocks.

    Attributes:
        format: how it is stored.
        codes: ``(O, B, block_size)`` uint8, one code an element; beyond the last input, whatever the quantizer leaves there.
        scales: ``(O, B)`` float32.
        zero_points: ``(O, B)`` uint8, None where the format is symmetric.
        num_inputs: ``I``.

    Raises:
        ShapeError: when the parts don't fit together.
    """

    format: BlockFormat
    codes: Tensor
    scales: Tensor
    zero_points: Tensor | None
    num_inputs: int

    def __post_init__(self) -> None:
        outputs, blocks = self.scales.shape
        whole = (outputs, self.format.num_blocks(self.num_inputs), self.format.block_size)
        fits = self.codes.shape == whole and blocks == whole[1] and self.codes.dtype == torch.uint8
        if self.zero_points is not None:
            fits = fits and self.zero_points.shape == self.scales.shape and self.zero_points.dtype == torch.uint8
        if not fits or self.format.symmetric != (self.zero_points is None):
            raise ShapeError(
                f"codes {tuple(self.codes.shape)} and scales {tuple(self.scales.shape)} don't fit {self.num_inputs} inputs in {self.format}"
            )

    @property
    def num_outputs(self) -> int:
        """``O``."""
        return len(self.scales)

    @property
    def size_bytes(self) -> int:
        """Bytes that it takes in a file."""
        return self.format.bytes_for(self.num_outputs, self.num_inputs)

    def rows(self, rows: slice) -> Blocks:
        """Return the blocks of some outputs."""
        points = None if self.zero_points is None else self.zero_points[rows]
        return Blocks(self.format, self.codes[rows], self.scales[rows], points, self.num_inputs)

    def values(self) -> Tensor:
        """Return the weights, ``(O, I)`` float32: the difference of code and zero point, which is exact, times the scale, rounded once."""
        values = self.codes.to(torch.float32)
        values -= self.format.middle if self.zero_points is None else self.zero_points.unsqueeze(-1)
        values *= self.scales.unsqueeze(-1)
        return values.flatten(1)[:, : self.num_inputs].contiguous()
