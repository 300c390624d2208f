"""The grids of ONNX on the real sample model against what onnxruntime-genai's model builder writes of it, bit for bit."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from tunesmith.methods import build_method
from tunesmith.methods.dequantized import dequantize_model
from tunesmith.methods.grid_linear import GridLinear
from tunesmith.models.save import save_plain_model
from tunesmith.models.sources import resolve_model

pytestmark = pytest.mark.integration
pytest.importorskip("onnxruntime_genai", reason="needs onnxruntime-genai (extra 'cpu')")


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def build(folder: Path, out: Path, num_blocks: int, precision: str) -> dict[str, Tensor]:
    """Export a model as the builder does by default at int4 or int8 for a CPU, and return the initializers of the graph."""
    import onnx
    from onnx import numpy_helper

    paths = ["-i", folder, "-o", out, "-c", out / "cache"]
    command = [sys.executable, "-m", "onnxruntime_genai.models.builder", *map(str, paths), "-p", precision, "-e", "cpu"]
    subprocess.run([*command, "--extra_options", f"num_hidden_layers={num_blocks}"], check=True, capture_output=True, timeout=600)
    graph = onnx.load(str(out / "model.onnx")).graph
    return {tensor.name: torch.from_numpy(numpy_helper.to_array(tensor).copy()) for tensor in graph.initializer}


def grid_of(model: PreTrainedModel, num_blocks: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Packed codes and scales by the builder's names; it joins q, k and v along the outputs."""
    parts: dict[str, list[str]] = {"lm_head": ["lm_head"]}
    for index in range(num_blocks):
        prefix = f"model.layers.{index}"
        parts[f"{prefix}.attn.qkv_proj"] = [f"{prefix}.self_attn.{name}_proj" for name in "qkv"]
        parts[f"{prefix}.attn.o_proj"] = [f"{prefix}.self_attn.o_proj"]
        parts |= {f"{prefix}.mlp.{name}_proj": [f"{prefix}.mlp.{name}_proj"] for name in ("gate", "up", "down")}
    layers = {name: [model.get_submodule(part) for part in names] for name, names in parts.items()}
    return {
        name: (torch.cat([layer.weight.data for layer in found]), torch.cat([layer.scales for layer in found]))
        for name, found in layers.items()
    }


def put_on(precision: str, sample_model: Path) -> PreTrainedModel:
    method = build_method("qlora", quant_type=f"onnx-{precision}")
    return method.load_base(resolve_model(str(sample_model)), dtype="auto", device="cpu", trust_remote_code=False)


@pytest.fixture(scope="module")
def on_grid(sample_model: Path) -> PreTrainedModel:
    return put_on("int4", sample_model)


def assert_same_bits(built: dict[str, Tensor], model: PreTrainedModel, num_blocks: int, bits: int = 4) -> None:
    ours = grid_of(model, num_blocks)
    quantized = {name.removesuffix(f".MatMul.weight_Q{bits}") for name in built if name.endswith(f"_Q{bits}")}
    assert quantized == ours.keys()
    for name, (packed, scales) in ours.items():
        assert torch.equal(built[f"{name}.MatMul.weight_Q{bits}"], packed), name
        assert built[f"{name}.MatMul.weight_scales"].dtype == torch.float32
        assert torch.equal(built[f"{name}.MatMul.weight_scales"], scales), name


def test_the_frozen_base_is_what_the_builder_ships(on_grid: PreTrainedModel, sample_model: Path, tmp_path: Path) -> None:
    num_blocks = on_grid.config.num_hidden_layers
    built = build(sample_model, tmp_path, num_blocks, "int4")
    assert_same_bits(built, on_grid, num_blocks)
    assert not any("embed_tokens" in name for name in built)  # the embedding reads the output layer's rows, there as here
    assert on_grid.get_input_embeddings().weight is on_grid.get_output_embeddings().weight


def test_the_plain_model_beside_the_adapter_ships_as_the_same_base(on_grid: PreTrainedModel, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(on_grid.name_or_path)
    save_plain_model(dequantize_model(on_grid), tokenizer, tmp_path / "model")
    assert_same_bits(build(tmp_path / "model", tmp_path / "onnx", 2, "int4"), on_grid, num_blocks=2)


def test_at_8_bits_it_is_what_the_builder_ships_too(sample_model: Path, tmp_path: Path) -> None:
    model = put_on("int8", sample_model)
    assert_same_bits(build(sample_model, tmp_path, 2, "int8"), model, 2, bits=8)


def test_size_and_error_are_those_of_four_bits(on_grid: PreTrainedModel, sample_model: Path) -> None:
    from tunesmith.models.load import load_model

    layers = [module for module in on_grid.modules() if isinstance(module, GridLinear)]
    num_weights = sum(layer.in_features * layer.out_features for layer in layers)
    num_bytes = sum(layer.weight.nbytes + layer.scales.nbytes for layer in layers)
    assert num_bytes == 0.625 * num_weights
    original = load_model(resolve_model(str(sample_model)), dtype="float32", device="cpu")
    errors = [
        ((module.dequantize(torch.float32) - weight).norm() / weight.norm()).item()
        for name, module in on_grid.named_modules()
        if isinstance(module, GridLinear) and (weight := original.get_parameter(f"{name}.weight").detach()) is not None
    ]
    assert sum(errors) / len(errors) == pytest.approx(0.0873, abs=0.0005)
