"""When memory, the disk or the numbers give out in the middle of a run: what is done about it, said, and left."""

from __future__ import annotations

import errno
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import tunesmith
from tiny_models import save_tiny
from tunesmith.cli.main import main
from tunesmith.errors import TrainingError
from tunesmith.train import checkpoints, results
from tunesmith.train.estimate import MemoryEstimate, advice
from tunesmith.train.metrics_log import read_metrics
from tunesmith.train.trainer import SupervisedTrainer

Step = Callable[..., torch.Tensor]
Fails = Callable[[SupervisedTrainer, dict[str, torch.Tensor]], BaseException | None]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny("llama", tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("data") / "colours.jsonl"
    rows = [{"prompt": f"What colour is number {n}?", "completion": ("red", "green", "blue")[n % 3]} for n in range(48)]
    file.write_text("\n".join(map(json.dumps, rows)))
    return file


def options(model: Path, out: Path, **changes: Any) -> dict[str, Any]:
    return {
        "model_name_or_path": str(model),
        "output_path": str(out),
        "torch_dtype": "float32",
        "max_steps": 6,
        "per_device_train_batch_size": 8,
        "save_steps": 2,
        "logging_steps": 1,
        "eval_steps": 6,
        "show_answers": 0,
        "validation_fraction": 0.2,
        "report_to": "none",
        "group_by_length": False,
        **changes,
    }


def finetune(model: Path, data: Path, out: Path, **changes: Any) -> Any:
    return tunesmith.finetune(str(data), **options(model, out, **changes))


def losses(out: Path) -> dict[int, float]:
    """The last logged loss of each step."""
    return {int(row["step"]): row["loss"] for row in read_metrics(out / "metrics.jsonl") if "loss" in row}


def failing_step(
    monkeypatch: pytest.MonkeyPatch, fails: Callable[[SupervisedTrainer, dict[str, torch.Tensor]], BaseException | None]
) -> None:
    """Let a training step raise what ``fails`` returns, if anything."""
    own: Step = SupervisedTrainer.training_step

    def step(self: SupervisedTrainer, model: Any, inputs: dict[str, torch.Tensor], *more: Any) -> torch.Tensor:
        error = fails(self, inputs)
        if error is not None:
            raise error
        return own(self, model, inputs, *more)

    monkeypatch.setattr(SupervisedTrainer, "training_step", step)


def out_of_memory_above(rows: int) -> Fails:
    def fails(_: SupervisedTrainer, inputs: dict[str, torch.Tensor]) -> BaseException | None:
        return torch.OutOfMemoryError("not enough") if len(inputs["input_ids"]) > rows else None

    return fails


def test_auto_batch_halves_until_it_fits_and_the_steps_stay_the_same(
    model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    finetune(model, data, tmp_path / "whole")
    failing_step(monkeypatch, out_of_memory_above(2))
    with caplog.at_level(logging.INFO, "tunesmith"):
        result = finetune(model, data, tmp_path / "halved", auto_batch=True)
    assert result.steps == 6
    said = [record.getMessage() for record in caplog.records if "twice the accumulation" in record.getMessage()]
    assert said == [
        "memory ran out with batches of 8; going on with 4 and twice the accumulation",
        "memory ran out with batches of 4; going on with 2 and twice the accumulation",
    ]
    assert losses(tmp_path / "halved") == pytest.approx(losses(tmp_path / "whole"), rel=1e-4)


def test_without_auto_batch_it_is_offered_and_nothing_is_left(
    model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing_step(monkeypatch, out_of_memory_above(2))
    with pytest.raises(TrainingError, match=r"memory ran out at about .* GiB .*--auto_batch"):
        finetune(model, data, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_knobs_that_save_memory_are_named_with_how_much_the_best_first() -> None:
    gib = 1 << 30
    estimate = MemoryEstimate(weights=2 * gib, gradients=gib, optimizer=2 * gib, activations=4 * gib)
    full = advice(estimate, batch_size=8, checkpointing=False, method="full")
    assert [part.split(" saves about ")[0] for part in full.split("; ")] == [
        "--gradient_checkpointing true (a third slower)",
        "--method lora",
        "half the --max_tokens_per_batch",
    ]
    assert "qlora" in advice(estimate, batch_size=1, checkpointing=True, method="lora")


def test_a_loss_that_is_not_a_number_once_is_tried_again_from_the_last_checkpoint(
    model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    finetune(model, data, tmp_path / "whole")
    broken: list[int] = []

    def fails(trainer: SupervisedTrainer, _: dict[str, torch.Tensor]) -> BaseException | None:
        if trainer.state.global_step != 4 or broken:
            return None
        broken.append(4)
        trainer.rows_of_step = [0]
        return trainer.non_finite("the loss")

    failing_step(monkeypatch, fails)
    result = finetune(model, data, tmp_path / "retried")
    assert broken == [4]
    assert result.steps == 6
    assert any("trying once more from step 4" in record.getMessage() for record in caplog.records)
    assert losses(tmp_path / "retried") == losses(tmp_path / "whole")


def test_a_loss_that_is_never_a_number_ends_the_run_and_names_the_rows(
    model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(trainer: SupervisedTrainer, _: dict[str, torch.Tensor]) -> BaseException | None:
        trainer.rows_of_step = [3, 1]
        return trainer.non_finite("the loss")

    failing_step(monkeypatch, fails)
    with pytest.raises(TrainingError, match=r"step 1 \(.*colours\.jsonl, rows \d+, \d+\); a second try .* ended the same way"):
        finetune(model, data, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_full_disk_leaves_the_last_whole_checkpoint(
    model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, own = tmp_path / "out", checkpoints.save_trainable

    def save(module: torch.nn.Module, folder: Path) -> None:
        if folder.name == "checkpoint-4":
            raise OSError(errno.ENOSPC, "No space left on device", str(folder))
        own(module, folder)

    monkeypatch.setattr(checkpoints, "save_trainable", save)
    flags = [f"--{name}={value}" for name, value in options(model, out).items()]
    assert main(["finetune", str(data), *flags]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("tunesmith: error")]
    assert "disk is full" in line
    assert [path.name for path in checkpoints.checkpoints_of(out / "checkpoints")] == ["checkpoint-2"]
    assert not (out / "manifest.json").exists()
    monkeypatch.setattr(checkpoints, "save_trainable", own)
    resumed = tunesmith.finetune(output_path=str(out), resume=True)
    assert resumed.steps == 6


def test_a_run_killed_while_it_writes_its_results_need_not_train_again(
    model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    whole = finetune(model, data, tmp_path / "whole")

    def killed(*_: Any, **__: Any) -> None:
        raise SystemExit

    with monkeypatch.context() as context:
        context.setattr(results, "write_manifest", killed)
        with pytest.raises(SystemExit):
            finetune(model, data, out)
    failing_step(monkeypatch, lambda *_: AssertionError("trained again"))
    result = tunesmith.finetune(output_path=str(out), resume=True)
    assert result.metrics == whole.metrics
    assert (out / "manifest.json").is_file()
