"""Going on with an adapter in place of a fresh one: on its base, on the grid of its base, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import tunesmith
from tiny_models import save_tiny
from tunesmith.errors import ModelError, UsageError
from tunesmith.train.metrics_log import read_metrics

COMMON: dict[str, Any] = {
    "torch_dtype": "float32",
    "max_steps": 12,
    "per_device_train_batch_size": 8,
    "learning_rate": 0.01,
    "eval_steps": 12,
    "show_answers": 0,
    "validation_fraction": 0.2,
    "report_to": "none",
    "verdict": False,
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny("llama", tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("data") / "colours.jsonl"
    rows = [{"prompt": f"What colour is number {n}?", "completion": ("red", "green", "blue")[n % 3]} for n in range(48)]
    file.write_text("\n".join(map(json.dumps, rows)))
    return file


@pytest.fixture(scope="module")
def first(model: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("first") / "run"
    tunesmith.finetune(str(data), model_name_or_path=str(model), output_path=str(out), lora_r=4, lora_alpha=8, **COMMON)
    return out


def start_loss(out: Path) -> float:
    """The validation loss before the first step."""
    return next(float(row["eval_loss"]) for row in read_metrics(out / "metrics.jsonl") if "eval_loss" in row and row["step"] == 0)


def go_on(model: Path, data: Path, out: Path, adapter: Path, **changes: Any) -> Any:
    options = {**COMMON, "max_steps": 2, **changes}
    return tunesmith.finetune(str(data), model_name_or_path=str(model), output_path=str(out), adapter_path=str(adapter), **options)


@pytest.mark.parametrize("place", ["", "adapter"])
def test_training_goes_on_where_the_adapter_was(model: Path, data: Path, first: Path, tmp_path: Path, place: str) -> None:
    go_on(model, data, tmp_path / "second", first / place)
    assert start_loss(tmp_path / "second") == pytest.approx(
        json.loads((first / "manifest.json").read_text())["metrics"]["eval_loss"], rel=1e-5
    )
    config = json.loads((tmp_path / "second" / "adapter" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (4, 8)


def test_an_adapter_goes_on_on_the_grid_of_its_base(model: Path, data: Path, first: Path, tmp_path: Path) -> None:
    go_on(model, data, tmp_path / "grid", first, method="qlora", quant_type="onnx-int4")
    fresh = {**COMMON, "max_steps": 1, "method": "qlora", "quant_type": "onnx-int4"}
    tunesmith.finetune(str(data), model_name_or_path=str(model), output_path=str(tmp_path / "fresh"), **fresh)
    trained = json.loads((first / "manifest.json").read_text())["metrics"]["eval_loss"]
    assert abs(start_loss(tmp_path / "grid") - trained) < 0.5 * abs(start_loss(tmp_path / "fresh") - trained)
    manifest = json.loads((tmp_path / "grid" / "manifest.json").read_text())
    assert manifest["grid"]["quant_type"] == "onnx-int4"


def test_a_rank_of_ones_own_is_refused(model: Path, data: Path, first: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--lora_r can't be chosen"):
        go_on(model, data, tmp_path / "second", first, lora_r=8)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"method": "full"}, UsageError, "no effect with --method full"),
        ({"method": "dora"}, UsageError, "is LoRA, --method is dora"),
    ],
)
def test_a_method_that_does_not_fit_is_refused(
    model: Path, data: Path, first: Path, tmp_path: Path, change: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        go_on(model, data, tmp_path / "second", first, **change)
    assert not (tmp_path / "second").exists()


def test_a_folder_without_adapter_is_named(model: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"is no adapter of peft \(no adapter_config.json in it\)"):
        go_on(model, data, tmp_path / "second", model)


@pytest.mark.parametrize(("text", "words"), [("{", "can't be read"), ('{"peft_type": "IA3"}', "is of type IA3")])
def test_a_configuration_that_is_broken_or_another_kind_is_named(model: Path, data: Path, tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "adapter_config.json").write_text(text)
    with pytest.raises(ModelError, match=words):
        go_on(model, data, tmp_path / "second", tmp_path)
