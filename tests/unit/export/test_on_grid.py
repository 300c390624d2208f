"""What was trained on the int4 grid ships as it was trained: the base's own codes, the adapter beside them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import nn

from tiny_models import save_tiny, tiny_tokenizer
from tunesmith.artifact import Manifest, write_manifest
from tunesmith.data.template_file import write_template
from tunesmith.data.templates import Template
from tunesmith.errors import ModelError, UsageError
from tunesmith.export.blame import audit_onnx
from tunesmith.export.decoder import build_decoder
from tunesmith.export.folder import write_extras
from tunesmith.export.on_grid import build_on_grid, check_grid_options, ships_unmerged, unmerged_model
from tunesmith.export.plan import Request, plans_for
from tunesmith.export.proof import exported_stage
from tunesmith.export.source import ExportSource, float_model, read_source
from tunesmith.methods import build_method
from tunesmith.methods.dequantized import dequantize_model
from tunesmith.models.save import save_plain_model
from tunesmith.models.sources import resolve_model
from tunesmith.runtime.load import load

pytest.importorskip("onnxruntime_genai", reason="needs onnxruntime-genai (extra 'cpu')")

TEMPLATE = Template(kind="text", text="Q: {q}\nA: {a}", answer_column="a", stop_tokens=("<|im_end|>",))
IDS = list(range(40, 90))


def make_run(
    folder: Path, family: str = "smollm", *, changes: dict[str, Any] | None = None, quant_type: str = "onnx-int4", **options: Any
) -> Path:
    """A run of qlora on a grid of ONNX, with an adapter that changes much, as finetune leaves it."""
    base = save_tiny(family, folder / "base", hidden_size=64, **(changes or {}))
    method = cast(Any, build_method("qlora", quant_type=quant_type, **options))
    model = method.apply(method.load_base(resolve_model(str(base)), dtype="float32", device="cpu", trust_remote_code=False))
    torch.manual_seed(1)
    for parameter in model.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.08)
    run = folder / "run"
    (run / "model").mkdir(parents=True)
    save_plain_model(dequantize_model(model), tiny_tokenizer(), run / "model")
    method.save(model, run / "adapter")
    tiny_tokenizer().save_pretrained(run / "adapter")
    write_template(run / "adapter", TEMPLATE)
    stops = TEMPLATE.stop_tokens
    write_manifest(
        run, Manifest(kind="finetune", method="qlora", base=str(base), template=TEMPLATE.to_dict(), stop_tokens=stops, grid=method.grid())
    )
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("run"), lora_r=4, lora_alpha=8)


@pytest.fixture(scope="module")
def run_of_8_bits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("run8"), lora_r=4, lora_alpha=8, quant_type="onnx-int8")


def export(source: ExportSource, folder: Path, **asked: Any) -> Path:
    plan = plans_for(source, Request(**{"precision": "int4", **asked}))[0]
    folder.mkdir()
    assert plan.adapter_precision is not None
    build_on_grid(source, folder, plan.recipe, adapter_precision=plan.adapter_precision)
    write_extras(source, folder, plan, name=folder.name)
    return folder


def logits_of(folder: Path) -> Any:
    return next(iter(load(folder).token_logits([IDS])))


def trained_logits(source: ExportSource) -> Any:
    with torch.inference_mode():
        return unmerged_model(source)(torch.tensor([IDS])).logits[0].numpy()


def agreement(one: Any, other: Any) -> float:
    return float((one.argmax(-1) == other.argmax(-1)).mean())


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_what_was_trained_is_what_ships(run: Path, precision: str, tmp_path: Path) -> None:
    source = read_source(run)
    assert ships_unmerged(source, "int4")
    assert not ships_unmerged(source, "int8")
    folder = export(source, tmp_path / "out", adapter_precision=precision)
    expected = trained_logits(source)
    found = logits_of(folder)
    # the kernel makes activations 8 bits; that is all that differs
    assert agreement(found, expected) >= 0.9
    assert np.abs(found - expected).mean() <= 0.05 * np.abs(expected).mean()
    with torch.inference_mode():
        base = cast(Any, unmerged_model(source)).base_model.model
        for module in base.modules():
            if hasattr(module, "lora_B"):
                nn.init.zeros_(module.lora_B["default"].weight)
        untuned = base(torch.tensor([IDS])).logits[0].numpy()
    assert agreement(found, untuned) < 0.7  # the adapter counts


def test_the_base_has_the_codes_that_it_was_trained_with(run: Path, tmp_path: Path) -> None:
    source = read_source(run)
    folder = export(source, tmp_path / "out", adapter_precision="fp32")
    found = audit_onnx(folder / "model.onnx", lambda: unmerged_model(source), on_grid=True)
    assert found.failure("grid") is None
    named = {layer.name for layer in found.layers}
    assert "model.layers.0.attn.qkv_proj.weight" in named


def test_the_grid_of_8_bits_ships_unasked_and_with_its_own_codes(run_of_8_bits: Path, tmp_path: Path) -> None:
    source = read_source(run_of_8_bits)
    assert [plan.target.precision for plan in plans_for(source, Request())] == ["int8", "fp32"]  # int4 would be off its grid
    assert not ships_unmerged(source, "int4")
    folder = export(source, tmp_path / "out", precision=None, adapter_precision="fp32")
    found, expected = logits_of(folder), trained_logits(source)
    assert agreement(found, expected) >= 0.9  # activations are 8 bits here, too
    assert np.abs(found - expected).mean() <= 0.05 * np.abs(expected).mean()
    audit = audit_onnx(folder / "model.onnx", lambda: unmerged_model(source), on_grid=True)
    assert audit.failure("grid") is None
    assert {"model.layers.0.attn.qkv_proj.weight", "lm_head.weight"} <= {layer.name for layer in audit.layers if layer.overrun is not None}
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert (manifest["grid"]["quant_type"], manifest["export"]["precision"]) == ("onnx-int8", "int8")
    assert exported_stage(source, folder, plans_for(source, Request())[0]).kind == "grid"


def test_merged_the_adapter_would_be_lost(run: Path, tmp_path: Path) -> None:
    """The reason for all of this: values on the grid quantize to themselves, whatever little is added to them."""
    source = read_source(run)
    small = {name: value for name, value in unmerged_model(source).state_dict().items() if "lora_B" in name}
    assert small
    plan = plans_for(replace(source, grid=None), Request(precision="int4"))[0]
    assert plan.adapter_precision is None
    folder = tmp_path / "merged"
    folder.mkdir()
    build_decoder(source, folder, plan.recipe)
    write_extras(source, folder, plan, name="merged")
    expected = trained_logits(source)
    beside = export(source, tmp_path / "beside")
    assert np.abs(logits_of(folder) - expected).mean() > 2 * np.abs(logits_of(beside) - expected).mean()


@pytest.mark.integration
@pytest.mark.parametrize("family", ["llama", "phi3", "qwen2", "qwen3", "gemma2"])
def test_every_family(family: str, tmp_path: Path) -> None:
    changes = {"head_dim": 16} if family in ("qwen3", "gemma2") else {}
    source = read_source(make_run(tmp_path, family, changes=changes, lora_r=4, lora_alpha=8))
    found = logits_of(export(source, tmp_path / "out", adapter_precision="fp16"))
    expected = trained_logits(source)
    assert agreement(found, expected) >= 0.9
    assert np.abs(found - expected).mean() <= 0.05 * np.abs(expected).mean()


@pytest.mark.integration
@pytest.mark.parametrize(
    "options",
    [
        {"use_rslora": True, "lora_r": 8},
        {"target_modules": ["v_proj"], "lora_r": 8},
        {"target_modules": ["q_proj", "up_proj"], "lora_r": 2},
    ],
)
def test_scaling_and_some_of_the_layers(options: dict[str, Any], tmp_path: Path) -> None:
    source = read_source(make_run(tmp_path, lora_alpha=16, **options))
    found, expected = logits_of(export(source, tmp_path / "out")), trained_logits(source)
    assert agreement(found, expected) >= 0.9
    assert np.abs(found - expected).mean() <= 0.05 * np.abs(expected).mean()


def test_the_same_choices_are_asked_for_on_rows_of_the_task_only(run: Path, tmp_path: Path) -> None:
    source = read_source(run)
    plan = plans_for(source, Request(precision="int4"))[0]
    assert exported_stage(source, tmp_path, plan).kind == "grid"
    assert exported_stage(source, tmp_path, plan, has_rows=False).kind == "quantized"


def test_the_manifest_says_that_the_adapter_stays_beside(run: Path, tmp_path: Path) -> None:
    folder = export(read_source(run), tmp_path / "out")
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["export"]["recipe"]["adapter"] == "int8"
    assert manifest["grid"]["quant_type"] == "onnx-int4"
    assert "stays beside the weights" in (folder / "README.md").read_text(encoding="utf-8")


def test_base_and_adapter_named_apart_are_the_same_pair(run: Path) -> None:
    source = read_source(run / "model", adapter_path=run / "adapter")
    assert ships_unmerged(source, "int4")
    assert source.run == run


def test_on_another_base_the_adapter_is_off_the_grid(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = read_source(run.parent / "base", adapter_path=run / "adapter")
    assert source.grid is None
    assert "answers can be worse than in training" in caplog.text


@pytest.mark.parametrize(
    "options", [{"block_size": 64}, {"is_symmetric": False}, {"algo_config": "k_quant"}, {"op_types_to_quantize": "MatMul"}]
)
def test_another_grid_is_refused(run: Path, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="grid"):
        plans_for(read_source(run), Request(precision="int4", extra_options=options))
    check_grid_options({"block_size": 32, "is_symmetric": True, "accuracy_level": 1})


def test_modules_that_were_trained_whole_cannot_stay_beside(tmp_path: Path) -> None:
    source = read_source(make_run(tmp_path, lora_r=4, modules_to_save=["lm_head"], changes={"tie_word_embeddings": False}))
    with pytest.raises(ModelError, match=r"whole modules were trained beside it .*Export it merged: --precision fp32"):
        export(source, tmp_path / "out")


def test_in_floating_point_it_is_merged_exactly(run: Path) -> None:
    source = read_source(run)
    with torch.inference_mode():
        merged = float_model(source)(torch.tensor([IDS])).logits[0].numpy()
    assert np.abs(merged - trained_logits(source)).max() < 1e-3
