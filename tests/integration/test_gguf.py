"""The real sample model as GGUF, in llama.cpp: the same ids, the same answers as PyTorch, and ends where they should be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tunesmith.export.gguf_file import write_gguf
from tunesmith.models.load import load_model, load_tokenizer
from tunesmith.models.sources import resolve_model

llama_cpp = pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed (extra 'gguf')")
pytestmark = pytest.mark.integration

QUESTIONS = ("What is the capital of France?", "Name a colour.", "2 + 2 =", "Wie heißt du? 🎉")
TEXTS = (
    "  two  blanks,   three, and at the end  ",
    "\n\n\t tabs\t\tand\r\nlines\n \n",
    "1 22 333 4444 55555 3.14 1,000,000 ½ ² Ⅳ ١٢٣",
    "don't I'LL we've It's — שלום עולם — مرحبا بالعالم",
    "🎉👩‍👩‍👧‍👦 naïve Zürich ｆｕｌｌ 日本語の文章。한국어",
    "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|><|im_end|>\n<|endoftext|>",
)


@pytest.fixture(scope="module")
def sample(sample_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, Any]:
    """PyTorch's model with weights as float16 has them, its tokenizer, and llama.cpp with the file of both."""
    source = resolve_model(sample_model)
    tokenizer, model = load_tokenizer(source), load_model(source, dtype="float32", device="cpu").eval()
    file = tmp_path_factory.mktemp("gguf") / "model.gguf"
    write_gguf(model, tokenizer, None, file, quant="f16")
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:  # norms are float32 in the file
                parameter.copy_(parameter.half())
    return model, tokenizer, llama_cpp.Llama(str(file), n_ctx=512, n_threads=1, verbose=False)


def test_answers_are_those_of_pytorch(sample: tuple[Any, Any, Any]) -> None:
    model, tokenizer, running = sample
    for question in QUESTIONS:
        messages = [{"role": "user", "content": question}]
        prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        assert running.tokenize(prompt.encode(), add_bos=True, special=True) == ids[0].tolist()
        with torch.no_grad():
            written = model.generate(ids, max_new_tokens=12, do_sample=False, pad_token_id=tokenizer.eos_token_id)[0, ids.shape[1] :]
        expected = tokenizer.decode(written, skip_special_tokens=True)
        assert running(prompt, max_tokens=12, temperature=0)["choices"][0]["text"] == expected
        assert running.create_chat_completion(messages, max_tokens=12, temperature=0)["choices"][0]["message"]["content"] == expected


def test_ids_are_those_of_transformers(sample: tuple[Any, Any, Any]) -> None:
    _, tokenizer, running = sample
    assert [running.tokenize(text.encode(), add_bos=True, special=True) for text in TEXTS] == [tokenizer(text).input_ids for text in TEXTS]
    assert running.token_eos() == tokenizer.eos_token_id


def test_small_formats_answer_too(sample: tuple[Any, Any, Any], tmp_path: Path) -> None:
    model, tokenizer, _ = sample
    write_gguf(model, tokenizer, None, tmp_path / "model.gguf", quant="q4_0")
    running = llama_cpp.Llama(str(tmp_path / "model.gguf"), n_ctx=256, n_threads=1, verbose=False)
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    assert "Paris" in running.create_chat_completion(messages, max_tokens=24, temperature=0)["choices"][0]["message"]["content"]
    assert (tmp_path / "model.gguf").stat().st_size < 80e6


def test_transformers_reads_it_back(sample: tuple[Any, Any, Any], tmp_path: Path) -> None:
    """A second reader of GGUF that shares no code with llama.cpp."""
    model, tokenizer, _ = sample
    write_gguf(model, tokenizer, None, tmp_path / "model.gguf", quant="f16")
    read = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="model.gguf", dtype=torch.float32).eval()
    ids = torch.tensor([tokenizer("The quick brown fox").input_ids])
    with torch.no_grad():
        assert torch.allclose(read(ids).logits, model(ids).logits, atol=1e-4)
    assert AutoTokenizer.from_pretrained(tmp_path, gguf_file="model.gguf").eos_token == tokenizer.eos_token
