"""One changed weight of a GGUF file, or of its adapter, is found, whatever the format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGUFReader
from peft import LoraConfig, get_peft_model

from tiny_models import tiny_model, tiny_tokenizer
from tunesmith.export.gguf_adapter import write_gguf_adapter
from tunesmith.export.gguf_audit import audit_gguf
from tunesmith.export.gguf_file import write_gguf
from tunesmith.export.gguf_tensors import QUANTS


def flip(file: Path, name: str, place: int = 5) -> None:
    """Change one bit of a tensor."""
    tensor = next(tensor for tensor in GGUFReader(file).tensors if tensor.name == name)
    content = bytearray(file.read_bytes())
    content[tensor.data_offset + place] ^= 0x10
    file.write_bytes(content)


def adapted(seed: int = 0) -> Any:
    torch.manual_seed(seed)
    model = get_peft_model(tiny_model("llama"), LoraConfig(r=4, target_modules=["q_proj", "down_proj"], init_lora_weights=False))
    return model.eval()


@pytest.mark.parametrize("quant", QUANTS)
def test_what_was_written_is_what_was_trained(quant: str, tmp_path: Path) -> None:
    write_gguf(tiny_model("gemma3"), tiny_tokenizer(), None, tmp_path / "model.gguf", quant=quant)
    audit = audit_gguf(tmp_path / "model.gguf", lambda: tiny_model("gemma3"))
    assert len(audit.layers) == len(GGUFReader(tmp_path / "model.gguf").tensors)
    assert audit.failure("quantized") is None
    assert ("lost most" in audit.blame()) is (quant != "f32")
    flip(tmp_path / "model.gguf", "blk.1.ffn_up.weight")
    assert "the weights of layer blk.1.ffn_up.weight are not the tuned model's" in str(
        audit_gguf(tmp_path / "model.gguf", lambda: tiny_model("gemma3")).failure("quantized")
    )


def test_another_model(tmp_path: Path) -> None:
    write_gguf(tiny_model("llama"), tiny_tokenizer(), None, tmp_path / "model.gguf", quant="q8_0")
    for other in (tiny_model("llama", seed=1), tiny_model("llama", intermediate_size=128), tiny_model("llama", num_hidden_layers=3)):
        assert audit_gguf(tmp_path / "model.gguf", lambda other=other: other).failure("quantized") is not None


def test_adapter_beside_the_base(tmp_path: Path) -> None:
    write_gguf(tiny_model("llama"), tiny_tokenizer(), None, tmp_path / "model.gguf", quant="q4_0")
    write_gguf_adapter(adapted(), tmp_path / "adapter.gguf")
    assert audit_gguf(tmp_path / "model.gguf", adapted).failure("grid") is None
    swapped = audit_gguf(tmp_path / "model.gguf", lambda: adapted(seed=1)).failure("grid")
    assert swapped is not None
    assert ".lora_" in swapped
    flip(tmp_path / "adapter.gguf", "blk.0.attn_q.weight.lora_b", 3)
    assert "blk.0.attn_q.weight.lora_b" in str(audit_gguf(tmp_path / "model.gguf", adapted).failure("grid"))
    (tmp_path / "adapter.gguf").unlink()
    assert audit_gguf(tmp_path / "model.gguf", adapted).failure("grid") is not None
    assert np.isinf([layer.largest for layer in audit_gguf(tmp_path / "model.gguf", adapted).layers]).sum() == 8
