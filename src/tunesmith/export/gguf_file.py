"""A whole GGUF file from a Hugging Face model: architecture, tokenizer, template, stop tokens, weights.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Everything is checked before the first byte is written, and weights
are converted one at a time, so that a model is never twice in memory.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.artifact import replaced_when_whole
from tunesmith.data.templates import Template
from tunesmith.errors import ModelError
from tunesmith.export.gguf_architecture import Family, add_architecture_keys, family_of
from tunesmith.export.gguf_tensors import check_quant, check_rows, encode, file_type, format_of, named_weights
from tunesmith.export.gguf_tokenizer import Vocabulary, add_vocabulary, vocabulary_of
from tunesmith.export.written_template import written_chat_template

if TYPE_CHECKING:
    from gguf import GGUFWriter
    from torch import nn
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger(__name__)


def write_gguf(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, template: Template | None, file: Path, *, quant: str, name: str = "model"
) -> None:
    """Write a model as one GGUF file that llama.cpp and what is built on it run.

    Args:
        model: a float32 decoder of transformers, without adapters.
        tokenizer: its tokenizer.
        template: how prompts become text and what ends an answer; None for the tokenizer's chat template and EOS.
        file: appears when it is whole.
        quant: the format of weight matrices: ``f32``, ``f16``, ``bf16``, ``q8_0``, ``q5_1``, ``q5_0``, ``q4_1``, ``q4_0``.
        name: what the file calls the model.

    Raises:
        UsageError: for a format that can't be written.
        ModelError: for an architecture, a tokenizer or weights that llama.cpp would compute otherwise.
        OutputError: when the file can't be written.
    """
    quant = check_quant(quant)
    config: Any = getattr(model, "config", None)
    if config is None:
        raise ModelError(f"{type(model).__name__} is no model of transformers", fix="Give one of AutoModelForCausalLM")
    family = family_of(config)
    vocabulary = vocabulary_of(tokenizer, num_rows=_num_rows(model), stop_ids=stop_ids(tokenizer, template))
    shapes = _checked_shapes(model, family, quant)
    with replaced_when_whole(file) as temporary:
        writer = _new_writer(temporary, family)
        try:
            _add_head(writer, config, family, vocabulary, name=name, quant=quant, chat_template=written_chat_template(template, tokenizer))
            _write_weights(writer, model, family, shapes, quant)
        finally:
            writer.close()


def stop_ids(tokenizer: PreTrainedTokenizerBase, template: Template | None) -> list[int]:
    """Return the ids that end an answer, the one that training wrote first."""
    if template is not None:
        return template.stop_token_ids(tokenizer)
    return [] if tokenizer.eos_token_id is None else [int(tokenizer.eos_token_id)]


def _num_rows(model: Any) -> int:
    return int(model.get_input_embeddings().weight.shape[0])


def _checked_shapes(model: nn.Module, family: Family, quant: str) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor by its name in the file; all of them fit the format."""
    shapes = {name: tuple(weight.shape) for name, weight in named_weights(model, family)}
    for name, shape in shapes.items():
        check_rows(name, shape, format_of(name, shape, quant))
    return shapes


def _new_writer(file: Path, family: Family) -> GGUFWriter:
    from gguf import GGUFWriter

    logging.getLogger("gguf").setLevel(logging.WARNING)
    return GGUFWriter(file, family.architecture)


def _add_head(
    writer: GGUFWriter, config: Any, family: Family, vocabulary: Vocabulary, *, name: str, quant: str, chat_template: str | None
) -> None:
    from gguf import GGML_QUANT_VERSION

    writer.add_type("model")
    writer.add_name(_safe_name(name, vocabulary))
    writer.add_file_type(file_type(quant))
    writer.add_quantization_version(GGML_QUANT_VERSION)
    add_architecture_keys(writer, config, family)
    add_vocabulary(writer, vocabulary)
    if chat_template:
        writer.add_chat_template(chat_template)


def _safe_name(name: str, vocabulary: Vocabulary) -> str:
    """The name, unless it says Phi-3 of another model or the reverse: llama.cpp strips blanks behind special tokens by this word alone."""
    says_so = any(word in name.lower() for word in ("phi-3", "phi3"))
    if says_so == vocabulary.strips_behind_special:
        return name
    return f"phi-3 {name}" if vocabulary.strips_behind_special else "model"


def _write_weights(writer: GGUFWriter, model: nn.Module, family: Family, shapes: dict[str, tuple[int, ...]], quant: str) -> None:
    import numpy as np
    from gguf import GGML_QUANT_SIZES

    for name, shape in shapes.items():
        kind = format_of(name, shape, quant)
        block, block_bytes = GGML_QUANT_SIZES[kind]
        writer.add_tensor_info(name, shape, np.dtype(np.float32), int(np.prod(shape)) // block * block_bytes, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for name, weight in named_weights(model, family):
        writer.write_tensor_data(encode(name, weight, format_of(name, shapes[name], quant)).values)
