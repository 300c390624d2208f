"""A LoRA adapter as a GGUF file of its own, which llama.cpp puts beside a base: ``llama-cli -m model.gguf --lora adapter.gguf``.

Legend: O outputs, I inputs, R rank. For each adapted matrix there are ``NAME.lora_a`` ``(R, I)`` and ``NAME.lora_b`` ``(O, R)``; llama.cpp
adds ``alpha / R * B (A x)`` to the product (``src/llama-adapter.cpp``).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.artifact import replaced_when_whole
from tunesmith.errors import ModelError
from tunesmith.export.gguf_architecture import Family, family_of
from tunesmith.export.gguf_tensors import as_computed_there, tensor_names

if TYPE_CHECKING:
    from torch import Tensor, nn

#: Its name beside the base.
ADAPTER_FILE = "adapter.gguf"
_FIX = "Merge it: --precision q8_0"


def write_gguf_adapter(model: nn.Module, file: Path, *, name: str = "adapter") -> None:
    """Write the LoRA adapter of a peft model.

    Args:
        model: with one LoRA adapter, not merged.
        file: appears when it is whole.
        name: what the file calls the adapter.

    Raises:
        ModelError: for an adapter that llama.cpp can't put beside a base: DoRA, layers that were trained whole, embeddings.
        OutputError: when the file can't be written.
    """
    from gguf import GGUFWriter

    from tunesmith.models.structure import causal_lm

    config: Any = causal_lm(model).config
    family = family_of(config)
    pairs = list(lora_pairs(model, family))
    with replaced_when_whole(file) as temporary:
        writer = GGUFWriter(temporary, family.architecture)
        try:
            writer.add_type("adapter")
            writer.add_string("adapter.type", "lora")
            writer.add_name(name)
            writer.add_float32("adapter.lora.alpha", pairs[0][3])
            for written, low, high, _ in pairs:
                writer.add_tensor(f"{written}.lora_a", low.numpy())
                writer.add_tensor(f"{written}.lora_b", high.numpy())
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
        finally:
            writer.close()


def lora_pairs(model: nn.Module, family: Family) -> Iterator[tuple[str, Tensor, Tensor, float]]:
    """Yield name there, A ``(R, I)``, B ``(O, R)`` in float32, and alpha, which is the same for all.

    Raises:
        ModelError: for what is no pair of matrices beside a linear layer.
    """
    from tunesmith.models.structure import causal_lm

    inner: Any = causal_lm(model)
    names = tensor_names(family, inner.config.num_hidden_layers)
    alpha: float | None = None
    for path, layer in inner.named_modules():
        _check_kind(path, layer)
        for adapter, down in getattr(layer, "lora_A", {}).items():
            written = names.get_name(f"{path}.weight", try_suffixes=(".weight",))
            if written is None or path == "lm_head":
                raise ModelError(f"llama.cpp can't put an adapter beside {path}", fix=_FIX)
            low, high = down.weight.detach().float(), layer.lora_B[adapter].weight.detach().float()
            own = float(layer.scaling[adapter]) * len(low)
            alpha = own if alpha is None else alpha
            high = as_computed_there(f"{path}.weight", high * (own / alpha), inner.config, family)
            yield written, low.contiguous(), high.contiguous(), alpha
    if alpha is None:
        raise ModelError("the model has no LoRA adapter", fix="Export it without one")


def _check_kind(path: str, layer: Any) -> None:
    if len(getattr(layer, "lora_magnitude_vector", {})):
        raise ModelError(f"llama.cpp has no DoRA, which {path} was trained with", fix=_FIX)
    if len(getattr(layer, "lora_embedding_A", {})):
        raise ModelError(f"llama.cpp can't put an adapter beside {path}", fix=_FIX)
    if len(getattr(layer, "modules_to_save", {})):
        raise ModelError(f"{path} was trained whole, and llama.cpp's adapters hold low-rank matrices only", fix=_FIX)
    if any(module.bias is not None for module in getattr(layer, "lora_B", {}).values()):
        raise ModelError(f"the adapter has biases beside {path}, and llama.cpp's have none", fix=_FIX)
