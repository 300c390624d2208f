"""Tokenizers that differ in what makes templates hard: BOS, joined blanks, the start of a text, tokens over borders."""

from __future__ import annotations

import string
from collections.abc import Callable
from functools import cache

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from tiny_models import tiny_tokenizer

_TEXT = ["the cat sat on the mat", "Answer: yes and no", "user assistant system", "one two three 123 456", "\n\nAnswer:\n\n"]
_SPECIAL = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]
_CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@cache
def sentencepiece_like(scheme: str = "first") -> PreTrainedTokenizerFast:
    """A tokenizer that marks blanks and puts one before a text, as Llama 2's and Mistral's do."""
    backend = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    backend.decoder = decoders.Metaspace(prepend_scheme=scheme)
    alphabet = sorted({*string.ascii_letters, *string.digits, *string.punctuation, "▁", "\n"})
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=_SPECIAL, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator(_TEXT, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", eos_token="</s>", additional_special_tokens=_SPECIAL[3:]
    )
    tokenizer.chat_template = _CHATML
    return tokenizer


TOKENIZERS: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    "byte-level": tiny_tokenizer,
    "adds BOS": lambda: tiny_tokenizer(adds_bos=True),
    "base model": lambda: tiny_tokenizer(chat_template=None),
    "sentencepiece": sentencepiece_like,
    "sentencepiece everywhere": lambda: sentencepiece_like("always"),
}
