"""GGUF files run by llama.cpp itself: the logits of every family, and the token ids of texts that tokenizers differ on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Regex, Tokenizer, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from sentencepiece_tokenizers import sentencepiece_tokenizer
from tiny_models import BOS, EOS, FAMILIES, MAX_LENGTH, PAD, START, VOCAB_SIZE, tiny_model, tiny_tokenizer
from tunesmith.export.gguf_file import write_gguf
from tunesmith.export.gguf_splitting import SPLITTINGS

llama_cpp = pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed (extra 'gguf')")

IDS = list(range(4, 64))
TEXTS = (
    f"{START}user\nHow are you?{EOS}\n{START}assistant\n",
    "  two  blanks,   three, and at the end  ",
    "\n\n\t tabs\t\tand\r\nlines\n \n",
    "1 22 333 4444 55555 3.14 1,000,000 ½ ² Ⅳ ١٢٣",
    "don't I'LL we've It's 'tis",
    "שלום עולם — مرحبا بالعالم 123",
    "🎉👩‍👩‍👧‍👦 naïve Zürich ｆｕｌｌ ŁÓDŹ",
    "日本語の文章。中文，한국어",
    "snake_case camelCase HTTPServer a+b=c; //path/to?x=1&y=2 <b>&amp;</b>",
    f"{EOS}{EOS} {BOS} {PAD}x{START}",
    "<unk> <s> </s> <|notatoken|>",
    "",
)


def load(file: Path) -> Any:
    """llama.cpp with its cache in float32, so that nothing but the file is compared."""
    return llama_cpp.Llama(str(file), n_ctx=128, n_threads=1, logits_all=True, type_k=0, type_v=0, flash_attn=False, verbose=False)


def written(model: Any, tokenizer: PreTrainedTokenizerBase, tmp_path: Path, quant: str = "f32") -> Path:
    write_gguf(model, tokenizer, None, tmp_path / "model.gguf", quant=quant)
    return tmp_path / "model.gguf"


def distance(model: Any, file: Path) -> float:
    """The largest difference of logits, of which the largest is about 4."""
    running = load(file)
    running.eval(IDS)
    with torch.no_grad():
        expected = model(torch.tensor([IDS])).logits[0].numpy()
    return float(np.abs(np.asarray(running.scores)[: len(IDS)] - expected).max())


def differing(tokenizer: PreTrainedTokenizerBase, file: Path) -> list[str]:
    running = load(file)
    ids = {text: running.tokenize(text.encode(), add_bos=False, special=True) for text in TEXTS}
    return [text for text, found in ids.items() if found != tokenizer(text, add_special_tokens=False).input_ids]


LINEAR = {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}
YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 64}
LLAMA3 = {**YARN, "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LONG = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0, 1.1, 1.3, 2.0], "long_factor": [2.0, 3.0, 4.0, 5.0]}
GLOBAL_LINEAR = {"sliding_attention": {"rope_type": "default", "rope_theta": 1e4}, "full_attention": {**LINEAR, "rope_theta": 1e6}}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    **{family: (family, {}) for family in FAMILIES if family != "gpt2"},
    "llama with biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama with wide heads": ("llama", {"head_dim": 16}),
    "llama, linear": ("llama", {"rope_parameters": LINEAR}),
    "llama, yarn": ("llama", {"rope_parameters": YARN}),
    "llama, yarn with a factor": ("llama", {"rope_parameters": {**YARN, "attention_factor": 1.5}}),
    "llama 3.1": ("llama", {"rope_parameters": LLAMA3}),
    "qwen2, untied": ("qwen2", {"tie_word_embeddings": False}),
    "qwen3, yarn": ("qwen3", {"rope_parameters": YARN}),
    "phi3, a part rotated": ("phi3", {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}}),
    "phi3, short and long": ("phi3", {"rope_parameters": LONG, "max_position_embeddings": 512, "original_max_position_embeddings": 256}),
    "gemma3, linear": ("gemma3", {"rope_parameters": GLOBAL_LINEAR}),
    "gemma3, untied": ("gemma3", {"tie_word_embeddings": False}),
    "gemma3, other layers slide": ("gemma3", {"layer_types": ["full_attention", "sliding_attention"]}),
}


def with_random_biases(model: Any) -> Any:
    """Biases start as zeros and norms as ones: with other values they are seen."""
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(1)
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize(("family", "changes"), CASES.values(), ids=CASES)
def test_logits_are_those_of_pytorch(family: str, changes: dict[str, Any], tmp_path: Path) -> None:
    model = with_random_biases(tiny_model(family, **changes))
    # llama.cpp looks Gemma's activation up in a table of half precision
    assert distance(model, written(model, tiny_tokenizer(), tmp_path)) < (1e-2 if family.startswith("gemma") else 1e-4)


OTHERS: dict[str, dict[str, Any]] = {
    "smollm3": {"num_hidden_layers": 4, "tie_word_embeddings": True},  # every fourth layer goes without rotary embedding
    "gemma": {"head_dim": 8, "tie_word_embeddings": True},
}


@pytest.mark.parametrize("kind", OTHERS)
def test_logits_of_families_beside_those_named(kind: str, tmp_path: Path) -> None:
    sizes = {"vocab_size": VOCAB_SIZE, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    sizes |= {"num_key_value_heads": 2, "max_position_embeddings": MAX_LENGTH, "pad_token_id": 0, "initializer_range": 0.15}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(CONFIG_MAPPING[kind](**{**sizes, **OTHERS[kind]}), dtype=torch.float32).eval()
    assert distance(with_random_biases(model), written(model, tiny_tokenizer(), tmp_path)) < (1e-2 if kind == "gemma" else 1e-4)


@pytest.mark.parametrize(("quant", "bound"), [("f16", 0.01), ("bf16", 0.1), ("q8_0", 0.2)])
def test_formats_near_to_lossless(quant: str, bound: float, tmp_path: Path) -> None:
    model = tiny_model("llama")
    assert 0 < distance(model, written(model, tiny_tokenizer(), tmp_path, quant)) < bound


@pytest.mark.parametrize("quant", ["q5_1", "q5_0", "q4_1", "q4_0"])
def test_small_formats_are_what_they_dequantize_to(quant: str, tmp_path: Path) -> None:
    """llama.cpp rounds activations to 8 bits in these products, so the bound is wide; a wrong nibble would be far beyond it."""
    from gguf import GGMLQuantizationType, quants

    model = tiny_model("llama")
    file = written(model, tiny_tokenizer(), tmp_path, quant)
    kind = GGMLQuantizationType[quant.upper()]
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.copy_(torch.from_numpy(quants.dequantize(quants.quantize(parameter.numpy(), kind), kind)))
    assert distance(model, file) < 0.2


RULES = [(rules, ignore) for rules, ignore in SPLITTINGS]


@pytest.mark.parametrize(("rules", "ignore"), RULES, ids=SPLITTINGS.values())
def test_ids_of_byte_level_tokenizers(rules: tuple[str, ...], ignore: bool, tmp_path: Path) -> None:
    backend = Tokenizer.from_str(
        tiny_tokenizer().backend_tokenizer.to_str().replace('"ignore_merges":false', f'"ignore_merges":{str(ignore).lower()}')
    )
    splits = [pre_tokenizers.Split(Regex(rule), "isolated") for rule in rules]
    backend.pre_tokenizer = pre_tokenizers.Sequence([*splits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token=BOS, eos_token=EOS, pad_token=PAD)
    file = written(tiny_model("llama"), tokenizer, tmp_path)
    assert differing(tokenizer, file) == []


@pytest.mark.parametrize("space_prefix", [True, False])
def test_ids_of_sentencepiece_tokenizers(space_prefix: bool, tmp_path: Path) -> None:
    tokenizer = sentencepiece_tokenizer(space_prefix=space_prefix)
    file = written(tiny_model("llama"), tokenizer, tmp_path)
    assert differing(tokenizer, file) == []


def test_ids_behind_tokens_that_strip_blanks(tmp_path: Path) -> None:
    """Phi-3's: llama.cpp strips what is behind special tokens in models of that name."""
    content = json.loads(sentencepiece_tokenizer().backend_tokenizer.to_str())
    number = max(token["id"] for token in content["added_tokens"]) + 1
    for token in ("<|endoftext|>", "<|user|>", "<|end|>", "<|assistant|>"):
        added = {"id": number, "content": token, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
        content["added_tokens"].append({**added, "special": True})
        number += 1
    for token in content["added_tokens"]:
        token["rstrip"] = token["content"] not in ("<unk>", "<s>", "<|endoftext|>")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(content)), bos_token="<s>", eos_token="</s>")
    running = load(written(tiny_model("llama"), tokenizer, tmp_path))
    for text in ("<|user|>\n  Hello there<|end|>\n<|assistant|>\n", "<s> a <|endoftext|> b</s> c", " the <|end|>the"):
        assert running.tokenize(text.encode(), add_bos=False, special=True) == tokenizer(text, add_special_tokens=False).input_ids


def test_ids_of_added_tokens_that_are_text(tmp_path: Path) -> None:
    """Gemma's rows of line breaks, and what a user adds: found in any text, special or not."""
    tokenizer = sentencepiece_tokenizer(space_prefix=False)
    tokenizer.add_tokens(["\n\n", "\n\n\n", "<label>", "▁▁"])
    running = load(written(tiny_model("llama"), tokenizer, tmp_path))
    for text in ("a\n\nb\n\n\n\nc", "the <label>x</label>", "two  blanks"):
        assert running.tokenize(text.encode(), add_bos=False, special=False) == tokenizer(text, add_special_tokens=False).input_ids


@pytest.mark.parametrize("adds_bos", [True, False])
def test_bos_is_added_where_transformers_adds_it(adds_bos: bool, tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer(adds_bos=adds_bos)
    running = load(written(tiny_model("llama"), tokenizer, tmp_path))
    assert running.tokenize(b"Hello", add_bos=True, special=True) == tokenizer("Hello").input_ids


def test_generation_stops_where_training_stopped(tmp_path: Path) -> None:
    """A stop token of no well-known name: llama.cpp knows it from the file alone."""
    from tunesmith.data.templates import Template

    tokenizer, model = tiny_tokenizer(), tiny_model("llama")
    with torch.no_grad():  # after any token, the stop token is likeliest
        model.model.norm.weight.fill_(1.0)
        model.lm_head.weight.zero_()
        model.model.layers[1].mlp.down_proj.weight.zero_()
    template = Template(kind="text", text="{text}{label}" + START, stop_tokens=(START,), answer_column="label")
    write_gguf(model, tokenizer, template, tmp_path / "model.gguf", quant="f16")
    running = load(tmp_path / "model.gguf")
    stop = tokenizer.convert_tokens_to_ids(START)
    assert running.token_eos() == stop
    answer = running("Hello", max_tokens=8, temperature=0, logit_bias={stop: 100.0})["choices"][0]
    assert (answer["text"], answer["finish_reason"]) == ("", "stop")
