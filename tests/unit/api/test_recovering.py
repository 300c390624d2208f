"""What int4 costs is learnt back: the adapter of a float run goes on on the grid, taught by that run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import tunesmith
from tiny_models import save_tiny
from tunesmith.api.recovering import recover
from tunesmith.errors import OutputError, UsageError
from tunesmith.train.metrics_log import read_metrics

COMMON: dict[str, Any] = {
    "torch_dtype": "float32",
    "per_device_train_batch_size": 8,
    "text_template": "Q: {question}\\nA: {answer}",
    "validation_fraction": 0.25,
    "show_answers": 0,
    "report_to": "none",
    "verdict": False,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    rows = [{"question": f"What colour is number {n}?", "answer": ("red", "green", "blue")[n % 3]} for n in range(48)]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    model = save_tiny("llama", folder / "model", hidden_size=64)
    options = {**COMMON, "max_steps": 12, "learning_rate": 0.01, "lora_r": 4}
    tunesmith.finetune(str(folder / "rows.jsonl"), model_name_or_path=str(model), output_path=str(folder / "float"), **options)
    return folder / "float"


def test_the_adapter_learns_on_the_grid_what_rounding_took(run: Path, tmp_path: Path) -> None:
    result = recover(run, tmp_path / "recovered", steps=20, learning_rate=0.005, eval_steps=20, report_to="none")
    losses = {row["step"]: row["eval_loss"] for row in read_metrics(tmp_path / "recovered" / "metrics.jsonl") if "eval_loss" in row}
    assert losses[result.kept_step] < losses[0]
    manifest = json.loads((tmp_path / "recovered" / "manifest.json").read_text())
    assert manifest["grid"]["quant_type"] == "onnx-int4"
    assert manifest["template"]["text"] == json.loads((run / "manifest.json").read_text())["template"]["text"]
    assert json.loads((tmp_path / "recovered" / "adapter" / "adapter_config.json").read_text())["r"] == 4


def test_a_run_on_the_grid_has_nothing_to_recover(run: Path, tmp_path: Path) -> None:
    recover(run, tmp_path / "recovered", steps=1, report_to="none")
    with pytest.raises(UsageError, match="nothing to recover"):
        recover(tmp_path / "recovered", tmp_path / "again", steps=1)


def test_auto_opt_ships_what_was_recovered(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime_genai", reason="needs onnxruntime-genai (extra 'cpu')")
    made = tunesmith.optimize(
        str(run / "model"), str(tmp_path / "onnx"), adapter_path=str(run / "adapter"), precision="int4", recover=2, proof=False
    )
    recovered = json.loads((tmp_path / "onnx-recovered" / "manifest.json").read_text())
    shipped = json.loads((made.folder / "manifest.json").read_text())
    assert recovered["options"]["max_steps"]["value"] == 2
    assert shipped["grid"] == recovered["grid"]
    assert shipped["grid"]["quant_type"] == "onnx-int4"


def test_a_folder_that_is_there_is_refused_before_any_training(run: Path, tmp_path: Path) -> None:
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "letter.txt").write_text("mine")
    with pytest.raises(OutputError, match="exists and is not empty"):
        tunesmith.optimize(str(run), str(tmp_path / "onnx"), recover=2)
    assert not (tmp_path / "onnx-recovered").exists()


def test_a_head_has_nothing_to_recover(run: Path, tmp_path: Path) -> None:
    copied = tmp_path / "head"
    (copied / "adapter").mkdir(parents=True)
    (copied / "manifest.json").write_text((run / "manifest.json").read_text())
    (copied / "adapter" / "task.json").write_text('{"name": "text-classification", "head": true}')
    with pytest.raises(UsageError, match="ends in a head"):
        recover(copied, tmp_path / "out", steps=1)


@pytest.mark.parametrize(("kind", "words"), [("model", "is no finished fine-tuning"), ("nowhere", "is no finished fine-tuning")])
def test_what_is_no_run_is_refused(run: Path, tmp_path: Path, kind: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        recover(run.parent / kind, tmp_path / "out", steps=1)


def test_a_full_run_is_refused(run: Path, tmp_path: Path) -> None:
    copied = tmp_path / "full"
    copied.mkdir()
    manifest = json.loads((run / "manifest.json").read_text())
    (copied / "manifest.json").write_text(json.dumps({**manifest, "method": "full"}))
    with pytest.raises(UsageError, match="--method full, which leaves no LoRA"):
        recover(copied, tmp_path / "out", steps=1)
