"""Which blocks a product of the model builder's graph holds: q, k and v are one product there, gate and up one or two.

Legend: O outputs, I inputs, B blocks of a row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from tunesmith.errors import ModelError
from tunesmith.export.recipes.blocks import Blocks

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor

    Bytes = npt.NDArray[np.uint8]

#: What the builder computes as one product, and the layers in it, in the order of its outputs.
TOGETHER = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}
#: The builder calls every output projection of attention the same.
_ALSO = {"o_proj": ("o_proj", "dense", "out_proj")}


@dataclass(frozen=True)
class ProductBlocks:
    """What one product holds.

    Attributes:
        blocks: of all its outputs, in the builder's order.
        layers: names of the layers in transformers that they came from.
    """

    blocks: Blocks
    layers: tuple[str, ...]


def blocks_of(product: str, blocks: Mapping[str, Blocks]) -> ProductBlocks | None:
    """Return what a product of the graph should hold, None where there are no blocks for it.

    Args:
        product: its name, as ``model.layers.0.attn.qkv_proj``.
        blocks: by the names of layers in transformers.

    Raises:
        ModelError: when only some of its layers have blocks, or they are stored in different ways.
    """
    around, _, own = product.rpartition(".")
    start = f"{around}." if around else ""
    for prefix in _in_transformers(start):
        for name in _ALSO.get(own, (own,)):
            if f"{prefix}{name}" in blocks:
                return ProductBlocks(blocks[f"{prefix}{name}"], (f"{prefix}{name}",))
        members = tuple(f"{prefix}{one}" for one in TOGETHER.get(own, ()))
        if any(name in blocks for name in members):
            return ProductBlocks(_joined(product, members, blocks), members)
        both = f"{prefix}gate_up_proj"  # Phi-3 has one layer where the graph has two products
        if own in TOGETHER["gate_up_proj"] and both in blocks:
            half = blocks[both].num_outputs // 2
            at = TOGETHER["gate_up_proj"].index(own) * half
            return ProductBlocks(_rows(blocks[both], slice(at, at + half)), (both,))
    return None


def packed_codes(blocks: Blocks) -> Bytes:
    """Return the codes as the operators read them, ``(O, B, block_size * bits / 8)``: two of 4 bits in a byte, the lower one first."""
    return _packed(blocks.codes, blocks.format.bits).numpy()


def row_bytes(blocks: Blocks) -> int:
    """Return the bytes that the codes of one output take."""
    return blocks.format.num_blocks(blocks.num_inputs) * blocks.format.block_size * blocks.format.bits // 8


def packed_zero_points(blocks: Blocks) -> Bytes | None:
    """Return the zero points, ``(O, ceil(B * bits / 8))``, None where there are none; the last half byte of an odd row is 0."""
    return None if blocks.zero_points is None else _packed(blocks.zero_points, blocks.format.bits).numpy()


def _in_transformers(start: str) -> Iterator[str]:
    yield start.replace(".attn.", ".self_attn.")
    if ".attn." in start:
        yield start


def _packed(codes: Tensor, bits: int) -> Tensor:
    if bits == 8:
        return codes.contiguous()
    even = torch.nn.functional.pad(codes, (0, codes.shape[-1] % 2))
    return even[..., 0::2] | (even[..., 1::2] << 4)


def _joined(product: str, members: tuple[str, ...], blocks: Mapping[str, Blocks]) -> Blocks:
    missing = [name for name in members if name not in blocks]
    if missing:
        raise ModelError(f"{product} is one product in the graph, but there are no codes for {', '.join(missing)}")
    parts = [blocks[name] for name in members]
    formats = {part.format: name for part, name in zip(parts, members, strict=True)}
    if len(formats) > 1:
        found = "; ".join(f"{name}: {stored.name}" for stored, name in formats.items())
        raise ModelError(f"{product} is one product in the graph, but its layers are stored in different ways ({found})", fix=_SAME)
    points: list[Any] = [part.zero_points for part in parts]
    return replace(
        parts[0],
        codes=torch.cat([part.codes for part in parts]),
        scales=torch.cat([part.scales for part in parts]),
        zero_points=None if points[0] is None else torch.cat(points),
    )


_SAME = "Give all of them the same bits, block size and zero points"


def _rows(blocks: Blocks, rows: slice) -> Blocks:
    points = None if blocks.zero_points is None else blocks.zero_points[rows]
    return replace(blocks, codes=blocks.codes[rows], scales=blocks.scales[rows], zero_points=points)
