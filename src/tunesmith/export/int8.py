"""Weights in 8 bits by onnxruntime: matrices by output channel, what is multiplied with them as it comes (dynamic quantization).

Each output channel of a matrix has one scale, ``w ≈ scale * q``. Activations become 8 bits at run time, with the scale that their own
smallest and largest value ask for (https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html).
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

#: Matrix products, and the tables of embeddings.
_QUANTIZED = ("MatMul", "Gather")


def quantize_int8(source: Path, destination: Path) -> None:
    """Write ``source`` with its weights in 8 bits.

    Args:
        source: a simplified ONNX file, see :func:`tunesmith.export.simplified.simplify`.
        destination: the file to write.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _quiet_quantizer():
        quantize_dynamic(
            source,
            destination,
            op_types_to_quantize=list(_QUANTIZED),
            per_channel=True,
            weight_type=QuantType.QInt8,
            use_external_data_format=source.with_name(f"{source.name}.data").is_file(),
        )


@contextlib.contextmanager
def _quiet_quantizer() -> Iterator[None]:
    """onnxruntime's quantizer advises preparations that were made, through the root logger."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(disabled)
