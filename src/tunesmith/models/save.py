"""Model folders that any Hugging Face program reads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def save_plain_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None, folder: Path) -> None:
    """Write ``model`` (safetensors) and its tokenizer into ``folder`` as a plain Hugging Face model.

    A model that was read from a GGUF file is dequantized already, but transformers marks it as quantized and then refuses to save it;
    the mark is taken off.
    """
    if getattr(model.config, "quantization_config", None) is not None:
        del model.config.quantization_config
    model.hf_quantizer = None
    model.is_quantized = False
    model.save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
