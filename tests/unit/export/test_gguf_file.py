"""GGUF files of tiny models of every family, read back by two readers that are not ours: the package gguf, and transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGUFReader, quants
from transformers import AutoModelForCausalLM, AutoTokenizer

from tiny_models import BOS, CHAT_TEMPLATE, EOS, FAMILIES, PAD, START, tiny_model, tiny_tokenizer
from tunesmith.data.templates import Template
from tunesmith.errors import ModelError, OutputError, UsageError
from tunesmith.export.gguf_file import write_gguf
from tunesmith.export.gguf_tensors import QUANTS, interleave_halves
from tunesmith.models.gguf import reading_once

WRITTEN = [family for family in FAMILIES if family != "gpt2"]
IDS = torch.arange(4, 60)[None]


def field(file: Path, name: str) -> Any:
    return GGUFReader(file).fields[name].contents()


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(IDS).logits
    return found


#: transformers takes these from the file; of the others it leaves out head sizes and sliding layers, so their configuration is given.
WHOLLY_READ = ("llama", "smollm", "mistral", "qwen2", "phi3")


@pytest.mark.parametrize("family", WRITTEN)
def test_transformers_reads_the_same_model(family: str, tmp_path: Path) -> None:
    model = tiny_model(family)
    write_gguf(model, tiny_tokenizer(), None, tmp_path / "model.gguf", quant="f32")
    known = {} if family in WHOLLY_READ else {"config": model.config}
    with reading_once():
        read = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="model.gguf", dtype=torch.float32, **known).eval()
    assert torch.equal(logits(read), logits(model))


@pytest.mark.parametrize("quant", QUANTS)
def test_values_are_those_of_the_format(quant: str, tmp_path: Path) -> None:
    model = tiny_model("qwen2")
    write_gguf(model, tiny_tokenizer(), None, tmp_path / "model.gguf", quant=quant)
    tensors = {tensor.name: tensor for tensor in GGUFReader(tmp_path / "model.gguf").tensors}
    down = tensors["blk.1.ffn_down.weight"]
    expected = model.get_parameter("model.layers.1.mlp.down_proj.weight").detach().numpy()
    assert down.tensor_type.name == QUANTS[quant]
    found = quants.dequantize(down.data, down.tensor_type)
    assert np.array_equal(found, quants.dequantize(quants.quantize(expected, down.tensor_type), down.tensor_type))
    assert np.abs(found - expected).max() <= {"f32": 0, "f16": 5e-4, "bf16": 4e-3, "q8_0": 4e-3}.get(quant, 0.08)
    bias = tensors["blk.1.attn_q.bias"]
    assert bias.tensor_type.name == "F32"
    assert np.array_equal(bias.data, model.get_parameter("model.layers.1.self_attn.q_proj.bias").detach().numpy())


def test_tied_output_is_written_once(tmp_path: Path) -> None:
    for tied in (True, False):
        write_gguf(tiny_model("llama", tie_word_embeddings=tied), tiny_tokenizer(), None, tmp_path / "model.gguf", quant="f16")
        assert ("output.weight" in {tensor.name for tensor in GGUFReader(tmp_path / "model.gguf").tensors}) is not tied


def test_rotated_pairs_become_neighbours() -> None:
    rows = torch.tensor([0.0, 1, 2, 10, 11, 12, 100, 101, 102, 110, 111, 112])
    assert interleave_halves(rows, 2).tolist() == [0, 10, 1, 11, 2, 12, 100, 110, 101, 111, 102, 112]


def test_llama3_stretches_long_waves_only(tmp_path: Path) -> None:
    rotary = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    model = tiny_model("llama", head_dim=32, rope_parameters={**rotary, "original_max_position_embeddings": 64})
    write_gguf(model, tiny_tokenizer(), None, tmp_path / "model.gguf", quant="f32")
    factors = next(t.data for t in GGUFReader(tmp_path / "model.gguf").tensors if t.name == "rope_freqs.weight")
    plain = 500000.0 ** -(np.arange(0, 32, 2) / 32)
    used = model.get_buffer("model.rotary_emb.inv_freq").numpy()
    assert factors[0] == 1
    assert factors[-1] == 8
    assert np.allclose(plain / factors, used, rtol=1e-6)


def test_template_and_stop_tokens_are_those_of_training(tmp_path: Path) -> None:
    template = Template(kind="text", text="Label this: {text} \nLabel: {label}" + START, stop_tokens=(START,), answer_column="label")
    write_gguf(tiny_model("llama"), tiny_tokenizer(adds_bos=True), template, tmp_path / "model.gguf", quant="f16", name="tones")
    file, ids = tmp_path / "model.gguf", tiny_tokenizer().convert_tokens_to_ids([START, EOS, BOS, PAD])
    keys = ("eos_token_id", "eot_token_id", "bos_token_id", "padding_token_id")
    assert [field(file, f"tokenizer.ggml.{key}") for key in keys] == ids
    assert field(file, "tokenizer.ggml.add_bos_token") is True
    assert field(file, "general.name") == "tones"
    read = AutoTokenizer.from_pretrained(tmp_path, gguf_file="model.gguf")
    assert read.eos_token == START
    rendered = read.apply_chat_template([{"role": "user", "content": 'a "b"\n'}], tokenize=False)
    assert rendered == template.prompt({"text": 'a "b"\n'}, tiny_tokenizer()) == 'Label this: a "b"\n \nLabel:'


def test_template_of_several_columns_takes_whole_prompts(tmp_path: Path) -> None:
    template = Template(kind="text", text="{a}|{b}={c}", stop_tokens=(EOS,), answer_column="c")
    write_gguf(tiny_model("llama"), tiny_tokenizer(), template, tmp_path / "model.gguf", quant="f16")
    assert field(tmp_path / "model.gguf", "tokenizer.chat_template") == "{{ messages[-1]['content'] }}"


def test_own_chat_template(tmp_path: Path) -> None:
    write_gguf(tiny_model("llama"), tiny_tokenizer(), None, tmp_path / "model.gguf", quant="f16")
    assert field(tmp_path / "model.gguf", "tokenizer.chat_template") == CHAT_TEMPLATE
    write_gguf(tiny_model("llama"), tiny_tokenizer(chat_template=None), None, tmp_path / "model.gguf", quant="f16")
    assert "tokenizer.chat_template" not in GGUFReader(tmp_path / "model.gguf").fields


def test_rows_beyond_the_tokenizer_are_unused_tokens(tmp_path: Path) -> None:
    write_gguf(tiny_model("llama", vocab_size=400), tiny_tokenizer(), None, tmp_path / "model.gguf", quant="f16")
    tokens, types = (field(tmp_path / "model.gguf", f"tokenizer.ggml.{key}") for key in ("tokens", "token_type"))
    assert len(tokens) == len(types) == 400
    assert tokens[399] == "[PAD399]"
    assert types[399] == 5
    assert [types[number] for number in tiny_tokenizer().all_special_ids] == [3] * 4


@pytest.mark.parametrize("name", ["phi-3 tuned", "my Phi3"])
def test_a_name_changes_no_tokens(name: str, tmp_path: Path) -> None:
    """llama.cpp strips blanks behind special tokens in every model that is called Phi-3, and fails where there is no ``</s>``."""
    write_gguf(tiny_model("llama"), tiny_tokenizer(), None, tmp_path / "model.gguf", quant="f16", name=name)
    assert field(tmp_path / "model.gguf", "general.name") == "model"


BAD_MODELS = {
    "no graph": ("gpt2", {}, "models of type 'gpt2' can't be written as GGUF here; it can be done for llama, mistral"),
    "activation": ("llama", {"hidden_act": "gelu"}, "its activation is gelu, there it is silu"),
    "attention scale": ("gemma2", {"query_pre_attn_scalar": 9}, "its query_pre_attn_scalar is 9, there it is 8"),
    "both directions": ("gemma3", {"use_bidirectional_attention": True}, "its tokens see those that follow"),
    "rotary": (
        "qwen2",
        {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}},
        "rotary embedding is of type dynamic, there default, linear, yarn can be had",
    ),
    "untied": ("gemma2", {"tie_word_embeddings": False}, "output layer differs from its input embedding"),
    "few rows": ("llama", {"vocab_size": 100}, "ids up to 383, but the model's embedding has 100 rows only"),
    "blocks": ("llama", {"intermediate_size": 48}, "blk.0.ffn_down.weight has rows of 48 numbers, and q4_0 packs blocks of 32"),
}


@pytest.mark.parametrize(("family", "changes", "words"), BAD_MODELS.values(), ids=BAD_MODELS)
def test_what_llama_cpp_would_compute_otherwise_is_refused(family: str, changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=words):
        write_gguf(tiny_model(family, **changes), tiny_tokenizer(), None, tmp_path / "model.gguf", quant="q4_0")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("quant", ["q4_k_m", "Q6_K", "iq4_xs"])
def test_formats_of_llama_quantize_are_refused(quant: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"can only be made by llama\.cpp's own llama-quantize; these can be written: f32, f16"):
        write_gguf(tiny_model("llama"), tiny_tokenizer(), None, tmp_path / "model.gguf", quant=quant)


def test_unknown_format(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no format 'q4_2'; these can be written: f32, .* Did you mean 'q4_"):
        write_gguf(tiny_model("llama"), tiny_tokenizer(), None, tmp_path / "model.gguf", quant="q4_2")


@pytest.mark.parametrize(("value", "words"), [(float("nan"), "not finite"), (7e4, "holds 70000, more than float16 can")])
def test_values_that_would_be_lost(value: float, words: str, tmp_path: Path) -> None:
    model = tiny_model("llama")
    with torch.no_grad():
        model.get_parameter("model.layers.0.mlp.up_proj.weight")[3, 4] = value
    with pytest.raises(ModelError, match=rf"blk.0.ffn_up.weight holds .*{words}" if value != 7e4 else words):
        write_gguf(model, tiny_tokenizer(), None, tmp_path / "model.gguf", quant="f16")
    assert not list(tmp_path.iterdir())


def test_weight_without_a_place(tmp_path: Path) -> None:
    model = tiny_model("llama")
    model.model.layers[0].extra = torch.nn.Linear(4, 4)
    with pytest.raises(ModelError, match=r"no place for the weight model\.layers\.0\.extra\.weight in llama models"):
        write_gguf(model, tiny_tokenizer(), None, tmp_path / "model.gguf", quant="f16")


def test_no_model_of_transformers(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="Linear is no model of transformers"):
        write_gguf(torch.nn.Linear(2, 2), tiny_tokenizer(), None, tmp_path / "model.gguf", quant="f16")


def test_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"model\.gguf can't be written"):
        write_gguf(tiny_model("llama"), tiny_tokenizer(), None, tmp_path / "no" / "model.gguf", quant="f16")
