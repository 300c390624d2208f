"""Tiny models and a tiny tokenizer, made on the spot: one of every family that tunesmith names, a few thousand parameters each.

Weights are drawn with a large standard deviation, so that logits differ clearly between tokens and equalities mean something.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from tunesmith.data.templates import Template
from tunesmith.runtime.scoring import encode_pairs

VOCAB_SIZE = 384
MAX_LENGTH = 256
PAD, BOS, EOS, START = "<|endoftext|>", "<|startoftext|>", "<|im_end|>", "<|im_start|>"
SPECIAL_TOKENS = (PAD, BOS, EOS, START)
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_TEXT = (
    "The train to the city leaves at seven in the morning and arrives before noon.",
    "user asks a question, assistant gives an answer, system says how to behave.",
    "Could you send me the report by Friday? Thank you very much for the help!",
    "Label: happy. Label: sad. Label: angry. Text: what is the tone of this message?",
    "def add(a, b):\n    return a + b  # 0 1 2 3 4 5 6 7 8 9",
)

_SMALL = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": MAX_LENGTH,
    "initializer_range": 0.15,
    "tie_word_embeddings": False,
}
_GEMMA = {**_SMALL, "head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 16, "tie_word_embeddings": True}
_GPT2 = {"vocab_size": VOCAB_SIZE, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": MAX_LENGTH, "initializer_range": 0.15}

#: family -> (model_type of transformers, configuration)
_CONFIGURATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", _SMALL),
    "smollm": ("llama", {**_SMALL, "tie_word_embeddings": True}),
    "mistral": ("mistral", {**_SMALL, "sliding_window": None}),
    "phi3": ("phi3", {**_SMALL, "original_max_position_embeddings": MAX_LENGTH}),
    "qwen2": ("qwen2", {**_SMALL, "tie_word_embeddings": True}),
    "qwen3": ("qwen3", {**_SMALL, "head_dim": 8, "tie_word_embeddings": True}),
    "gemma2": ("gemma2", _GEMMA),
    "gemma3": ("gemma3_text", {**_GEMMA, "sliding_window_pattern": 2}),
    "gpt2": ("gpt2", _GPT2),
}
FAMILIES = tuple(_CONFIGURATIONS)


def tiny_model(family: str, *, seed: int = 0, **changes: Any) -> PreTrainedModel:
    """Return a two-layer float32 causal language model of ``family`` with random weights; ``changes`` go into its configuration."""
    model_type, values = _CONFIGURATIONS[family]
    tokenizer = tiny_tokenizer()
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    config = CONFIG_MAPPING[model_type](**{**values, **ids, **changes})
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    return model.eval()


@functools.cache
def _tokenizer_json() -> str:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_TEXT, trainer)
    return str(tokenizer.to_str())


def tiny_tokenizer(*, adds_bos: bool = False, chat_template: str | None = CHAT_TEMPLATE) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer trained on a few sentences.

    Args:
        adds_bos: put ``<|startoftext|>`` before every encoded text, as Llama's and Gemma's tokenizers do.
        chat_template: ChatML by default; ``None`` for a tokenizer of a base model.
    """
    backend = Tokenizer.from_str(_tokenizer_json())
    if adds_bos:
        backend.post_processor = processors.TemplateProcessing(
            single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B:1", special_tokens=[(BOS, backend.token_to_id(BOS))]
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        additional_special_tokens=[START],
        model_max_length=MAX_LENGTH,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = chat_template
    return tokenizer


def save_tiny(family: str, folder: Path, **options: Any) -> Path:
    """Write a tiny model and its tokenizer as a plain Hugging Face folder and return it; ``options`` are those of :func:`tiny_model`."""
    tiny_model(family, **options).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def learn_by_heart(model: PreTrainedModel, rows: Sequence[Mapping[str, str]], template: Template, *, steps: int) -> None:
    """Train a tiny model until it answers rows (with a column ``answer``) as they say, and stops."""
    scored = encode_pairs([(row, row["answer"]) for row in rows], template, tiny_tokenizer())
    longest = max(len(row.ids) for row in scored)
    ids = torch.tensor([[*row.ids, *[0] * (longest - len(row.ids))] for row in scored])
    labels = torch.full_like(ids, -100)
    for place, row in enumerate(scored):
        labels[place, row.first : len(row.ids)] = ids[place, row.first : len(row.ids)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(steps):
        loss = model(input_ids=ids, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05
