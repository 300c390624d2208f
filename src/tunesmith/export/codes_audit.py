"""The weights of an export of chosen codes, read back: they have to be those of the recipe, to the bit.

What a recipe makes of a weight (calibration, half-quadratic fits) is not the nearest value, so how far it is off says nothing; but which
values it chose is known, and the graph has to hold just these. One flipped code is found, and its layer named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.export.blame import Exported, onnx_weights
from tunesmith.export.recipes.recipe import quantized_values
from tunesmith.export.weights import Audit, TunedWeights, audit

if TYPE_CHECKING:
    from torch import nn

    from tunesmith.export.recipes.blocks import Blocks


def audit_codes(file: Path, tuned: Callable[[], nn.Module], blocks: Mapping[str, Blocks]) -> Audit:
    """Compare the weights of an ONNX file with the values of the codes that it was written with.

    Args:
        file: from :func:`tunesmith.export.written_codes.write_codes`.
        tuned: gives the tuned model in float32, adapters merged; what has no blocks has to be its.
        blocks: what :func:`~tunesmith.export.written_codes.write_codes` was given.

    Raises:
        ModelError: for blocks of a layer that the model doesn't have.
    """
    with quantized_values(tuned(), blocks) as model:
        return audit(_to_the_bit(onnx_weights(file)), TunedWeights(model), on_grid=True)


def _to_the_bit(exported: Iterable[Exported]) -> Iterator[Exported]:
    """Values of codes are computed here as they are there: one product of two floats, rounded once."""
    for name, values, reach, exact_to in exported:
        yield name, values, reach, exact_to if reach is None else 0.0
