"""Models and tokenizers from any source, in the precision and on the device that this machine is good at."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import torch

from tunesmith.errors import ModelError
from tunesmith.models.quiet import quiet_libraries
from tunesmith.models.sources import ModelSource

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

log = logging.getLogger(__name__)


def load_tokenizer(source: ModelSource, *, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """Load the tokenizer of ``source``; it always has a pad token afterwards (the end-of-text token where the model names none)."""
    from transformers import AutoTokenizer

    options = {"gguf_file": source.path.name} if source.kind == "gguf" else {}
    with quiet_libraries():
        tokenizer = AutoTokenizer.from_pretrained(source.folder, trust_remote_code=trust_remote_code, **options)
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise ModelError(f"the tokenizer of {source.name} names neither a pad nor an end-of-text token")
        tokenizer.pad_token = tokenizer.eos_token
        log.debug("The tokenizer has no pad token; its end-of-text token %s stands in.", tokenizer.eos_token)
    return tokenizer


def load_model(
    source: ModelSource, *, dtype: str = "auto", device: str = "auto", trust_remote_code: bool = False, task: str = "text-generation"
) -> PreTrainedModel:
    """Load the model of ``source``; safetensors are memory-mapped."""
    from transformers import AutoModelForCausalLM

    options = {"gguf_file": source.path.name} if source.kind == "gguf" else {}
    chosen = getattr(torch, "float32" if dtype == "auto" else dtype)
    with quiet_libraries():
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            source.folder, dtype=chosen, trust_remote_code=trust_remote_code, **options
        )
    return model.to("cpu" if device == "auto" else device)
