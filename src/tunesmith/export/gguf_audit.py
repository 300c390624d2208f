"""Weights read back out of a GGUF file and held against the model that it was made from: a single changed number is found.

What a format makes of a weight is known exactly, so the file has to hold just that; how far that is from the weight tells which layer the
format costs most.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.export.gguf_adapter import ADAPTER_FILE, lora_pairs
from tunesmith.export.gguf_architecture import Family, family_of
from tunesmith.export.gguf_tensors import encode, named_weights
from tunesmith.export.weights import FLOAT_ERROR, Audit, LayerError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn


def audit_gguf(file: Path, tuned: Callable[[], nn.Module]) -> Audit:
    """Compare the weights of a GGUF file, and of an adapter beside it, with the tuned model's.

    Args:
        file: the model.
        tuned: gives the tuned model in float32: merged, or with a LoRA adapter beside its weights, which ``adapter.gguf`` has to hold.
    """
    model: Any = tuned()
    adapted = hasattr(model, "peft_config")
    base = model.get_base_model() if adapted else model
    family = family_of(base.config)
    layers = [*_adapter_layers(model, file.with_name(ADAPTER_FILE), family)] if adapted else []
    return Audit((*_model_layers(model.unload() if adapted else model, file, family), *layers))


def _model_layers(model: nn.Module, file: Path, family: Family) -> Iterator[LayerError]:
    found = _tensors(file)
    for name, weight in named_weights(model, family):
        yield _compared(name, weight, found.get(name))


def _adapter_layers(model: nn.Module, file: Path, family: Family) -> Iterator[LayerError]:
    found = _tensors(file) if file.is_file() else {}
    for name, low, high, _ in lora_pairs(model, family):
        yield _compared(f"{name}.lora_a", low, found.get(f"{name}.lora_a"))
        yield _compared(f"{name}.lora_b", high, found.get(f"{name}.lora_b"))


def _tensors(file: Path) -> dict[str, Any]:
    from gguf import GGUFReader

    return {tensor.name: tensor for tensor in GGUFReader(file).tensors}


def _compared(name: str, weight: Tensor, tensor: Any) -> LayerError:
    """How far the file's values are from what its format makes of the weight (``largest``), and from the weight itself (``relative``)."""
    import numpy as np
    from gguf import quants

    exact = weight.numpy()
    scale = float(np.abs(exact).max(initial=0.0))
    shape = tuple(int(size) for size in reversed(tensor.shape)) if tensor is not None else ()
    if shape != exact.shape:
        return LayerError(name, relative=1.0, largest=float("inf"), scale=scale, overrun=None, exact_to=FLOAT_ERROR)
    kind = tensor.tensor_type
    found: np.ndarray = quants.dequantize(np.asarray(tensor.data), kind).reshape(shape)
    expected = quants.dequantize(encode(name, weight, kind).values, kind).reshape(shape)
    changed = np.abs(found - expected)
    largest = float(changed.max(initial=0.0)) if np.isfinite(changed).all() else float("inf")
    relative = float(np.linalg.norm(found - exact)) / (float(np.linalg.norm(exact)) or 1.0)
    return LayerError(name, relative=relative, largest=largest, scale=scale, overrun=None, exact_to=FLOAT_ERROR)
