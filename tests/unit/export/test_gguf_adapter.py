"""A LoRA adapter as a GGUF file beside its base: llama.cpp computes what was trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGUFReader, quants
from peft import LoraConfig, get_peft_model

from tiny_models import tiny_model, tiny_tokenizer
from tunesmith.errors import ModelError
from tunesmith.export.gguf_adapter import write_gguf_adapter
from tunesmith.export.gguf_file import write_gguf
from tunesmith.methods.dequantized import count_parameters, dequantize_model
from tunesmith.methods.grid_model import put_on_grid

IDS = list(range(4, 64))
LINEAR = "all-linear"


def with_lora(model: Any, **options: Any) -> Any:
    """The model with an adapter whose matrices are random."""
    adapted = get_peft_model(model, LoraConfig(**{"r": 4, "lora_alpha": 6, "target_modules": LINEAR, "task_type": "CAUSAL_LM", **options}))
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(2)
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.copy_(0.3 * torch.randn_like(parameter))
    return adapted.eval()


def distance(model: Any, file: Path, adapter: Path | None) -> float:
    llama_cpp = pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed (extra 'gguf')")
    beside = {"lora_path": str(adapter)} if adapter else {}
    running = llama_cpp.Llama(
        str(file), n_ctx=128, n_threads=1, logits_all=True, type_k=0, type_v=0, flash_attn=False, verbose=False, **beside
    )
    running.eval(IDS)
    with torch.no_grad():
        expected = model(torch.tensor([IDS])).logits[0].numpy()
    return float(np.abs(np.asarray(running.scores)[: len(IDS)] - expected).max())


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    **{family: (family, {}) for family in ("llama", "smollm", "phi3", "qwen3", "gemma3")},
    "several ranks": ("llama", {"rank_pattern": {"q_proj": 8}, "alpha_pattern": {"down_proj": 3}}),
    "by the root of the rank": ("llama", {"use_rslora": True}),
    "a few layers": ("llama", {"target_modules": ["k_proj", "down_proj"], "layers_to_transform": [1]}),
}


@pytest.mark.parametrize(("family", "options"), CASES.values(), ids=CASES)
def test_logits_are_those_of_base_and_adapter(family: str, options: dict[str, Any], tmp_path: Path) -> None:
    model = tiny_model(family)
    write_gguf(model, tiny_tokenizer(), None, tmp_path / "model.gguf", quant="f32")
    adapted = with_lora(model, **options)
    write_gguf_adapter(adapted, tmp_path / "adapter.gguf")
    bound = 1e-2 if family.startswith("gemma") else 1e-4
    assert distance(adapted, tmp_path / "model.gguf", tmp_path / "adapter.gguf") < bound
    assert distance(adapted, tmp_path / "model.gguf", None) > 0.3


@pytest.mark.parametrize(("family", "changes"), [("smollm", {}), ("llama", {}), ("gemma3", {}), ("phi3", {})])
def test_what_was_trained_on_the_grid_is_what_ships(family: str, changes: dict[str, Any], tmp_path: Path) -> None:
    on_grid = tiny_model(family, **changes)
    num_parameters = count_parameters(on_grid)
    record = put_on_grid(on_grid, torch.float32, quant_type="gguf-q4_0")
    assert (record["quant_type"], record["excluded"]) == ("gguf-q4_0", [])
    assert count_parameters(on_grid) == num_parameters
    plain = dequantize_model(on_grid)
    with torch.no_grad():
        assert torch.allclose(on_grid(torch.tensor([IDS])).logits, plain(torch.tensor([IDS])).logits, atol=1e-5)
    write_gguf(plain, tiny_tokenizer(), None, tmp_path / "small.gguf", quant="q4_0")
    write_gguf(plain, tiny_tokenizer(), None, tmp_path / "whole.gguf", quant="f32")
    small, whole = (GGUFReader(tmp_path / name).tensors for name in ("small.gguf", "whole.gguf"))
    for one, other in zip(small, whole, strict=True):
        assert one.name == other.name
        assert np.array_equal(quants.dequantize(one.data, one.tensor_type), other.data)
    adapted = with_lora(plain)
    write_gguf_adapter(adapted, tmp_path / "adapter.gguf")
    assert distance(adapted, tmp_path / "small.gguf", tmp_path / "adapter.gguf") < 0.3  # llama.cpp rounds activations to 8 bits


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "DoRA": ({"use_dora": True}, r"no DoRA, which model\.layers\.0\.self_attn\.q_proj was trained with\. Merge it: --precision q8_0"),
    "whole layers": ({"modules_to_save": ["lm_head"]}, "lm_head was trained whole"),
    "embedding": ({"target_modules": ["embed_tokens"]}, r"can't put an adapter beside model\.embed_tokens"),
    "output": ({"target_modules": ["lm_head"]}, "can't put an adapter beside lm_head"),
    "bias": ({"lora_bias": True}, "has biases beside"),
}


@pytest.mark.parametrize(("options", "words"), BAD.values(), ids=BAD)
def test_adapters_that_llama_cpp_has_no_place_for(options: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=words):
        write_gguf_adapter(with_lora(tiny_model("llama"), **options), tmp_path / "adapter.gguf")
    assert not list(tmp_path.iterdir())


def test_no_adapter(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has no LoRA adapter"):
        write_gguf_adapter(tiny_model("llama"), tmp_path / "adapter.gguf")


def test_our_runtime_puts_the_adapter_on_without_a_word(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed (extra 'gguf')")
    from tunesmith.runtime.llama_engine import LlamaEngine

    model = tiny_model("llama")
    write_gguf(model, tiny_tokenizer(), None, tmp_path / "model.gguf", quant="f16")
    adapted = with_lora(model)
    write_gguf_adapter(adapted, tmp_path / "adapter.gguf")
    engine = LlamaEngine(tmp_path / "model.gguf", threads=1)
    with torch.no_grad():
        expected = adapted(torch.tensor([IDS])).logits[0].numpy()
    assert np.abs(engine.read(IDS, num_logits=len(IDS)) - expected).max() < 0.05
    assert engine.size_bytes == sum(file.stat().st_size for file in tmp_path.iterdir())
    assert capfd.readouterr().err == ""
