"""From rows to a GGUF file on the grid that was trained on, by the public commands."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader, quants
from safetensors.numpy import load_file

from tunesmith.cli.main import main

pytestmark = pytest.mark.integration
pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed (extra 'gguf')")


@pytest.fixture(scope="module")
def run(tiny_folder: Path, colours: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished fine-tuning on llama.cpp's q4_0 grid."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    options = ["--method", "qlora", "--quant_type", "gguf-q4_0", "--max_steps", "4", "--text_template", "{text} is {label}"]
    assert main(["finetune", "--data_name", str(colours), "-m", str(tiny_folder), *options, "-o", str(folder)]) == 0
    return folder


def test_it_ships_as_it_was_trained(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "gguf"
    assert main(["auto-opt", str(run), "--format", "gguf", "--limit", "3", "-o", str(out)]) == 0
    assert "q4_0 for llama.cpp" in capsys.readouterr().out
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    assert (manifest["kind"], manifest["grid"]["quant_type"]) == ("gguf", "gguf-q4_0")
    assert "ADAPTER ./adapter.gguf" in (out / "Modelfile").read_text(encoding="utf-8")
    written = {tensor.name: tensor for tensor in GGUFReader(out / "model.gguf").tensors}
    base = load_file(run / "model" / "model.safetensors")
    for name, ours in (
        ("blk.1.ffn_down.weight", "model.layers.1.mlp.down_proj.weight"),
        ("token_embd.weight", "model.embed_tokens.weight"),
    ):
        assert np.array_equal(quants.dequantize(written[name].data, written[name].tensor_type), base[ours])
    assert main(["generate", "-m", str(out), "thing number 7 in the shop", "--max_new_tokens", "3"]) == 0


def test_merged_at_other_precisions(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "gguf"
    assert main(["auto-opt", str(run), "--format", "gguf", "--precision", "f16", "--no-proof", "-o", str(out)]) == 0
    assert not (out / "adapter.gguf").exists()
    assert "ADAPTER" not in (out / "Modelfile").read_text(encoding="utf-8")
