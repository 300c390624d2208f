"""Tiny encoders and encoder-decoders, made on the spot, beside the decoders of `tiny_models`."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import processors
from transformers import AutoModelForMaskedLM, AutoModelForSeq2SeqLM, PreTrainedModel, PreTrainedTokenizerFast
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from tiny_models import BOS, EOS, MAX_LENGTH, VOCAB_SIZE, tiny_tokenizer

_SMALL = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": MAX_LENGTH,
    "initializer_range": 0.15,
}
ENCODERS = ("bert", "roberta")
_TWO_HALVES = {
    "t5": {
        "vocab_size": VOCAB_SIZE,
        "d_model": 32,
        "d_kv": 8,
        "d_ff": 64,
        "num_layers": 2,
        "num_heads": 4,
        "dropout_rate": 0.0,
        "initializer_factor": 3.0,
    },
    "bart": {
        "vocab_size": VOCAB_SIZE,
        "d_model": 32,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "encoder_ffn_dim": 64,
        "decoder_ffn_dim": 64,
        "max_position_embeddings": MAX_LENGTH,
        "init_std": 0.15,
        "dropout": 0.0,
        "forced_eos_token_id": None,
    },
}


def tiny_encoder(family: str, *, seed: int = 0) -> PreTrainedModel:
    """Return a two-layer float32 encoder with random weights, as its pretraining leaves it: with a head for masked words."""
    config = CONFIG_MAPPING[family](**{**_SMALL, "pad_token_id": tiny_tokenizer().pad_token_id})
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model: PreTrainedModel = AutoModelForMaskedLM.from_config(config, dtype=torch.float32)
    return model.eval()


def segment_tokenizer() -> PreTrainedTokenizerFast:
    """Return the tiny tokenizer with what BERT's does: a token at the start and after each text, and types that tell two texts apart."""
    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A {EOS}",
        pair=f"{BOS} $A {EOS} $B:1 {EOS}:1",
        special_tokens=[(token, tokenizer.convert_tokens_to_ids(token)) for token in (BOS, EOS)],
    )
    tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    tokenizer.init_kwargs["model_input_names"] = tokenizer.model_input_names  # so that a saved one says it too
    return tokenizer


def tiny_encoder_decoder(family: str, *, seed: int = 0) -> PreTrainedModel:
    """Return a T5 or BART of two blocks in each half, float32, with random weights."""
    config = CONFIG_MAPPING[family](**_TWO_HALVES[family], **_special_ids())
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model: PreTrainedModel = AutoModelForSeq2SeqLM.from_config(config, dtype=torch.float32)
    return model.eval()


def _special_ids() -> dict[str, int]:
    tokenizer = tiny_tokenizer()
    pad, eos = int(tokenizer.pad_token_id), int(tokenizer.eos_token_id)
    return {"pad_token_id": pad, "eos_token_id": eos, "bos_token_id": int(tokenizer.bos_token_id), "decoder_start_token_id": pad}


def save_tiny_encoder_decoder(family: str, folder: Path) -> Path:
    """Write a tiny encoder-decoder and its tokenizer as a plain Hugging Face folder and return it."""
    tiny_encoder_decoder(family).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def save_tiny_encoder(family: str, folder: Path) -> Path:
    """Write a tiny encoder and its tokenizer as a plain Hugging Face folder and return it."""
    tiny_encoder(family).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder
