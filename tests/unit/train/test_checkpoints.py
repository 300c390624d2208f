"""Checkpoints are whole or not there, and only fit the model they were taken from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tiny_models import tiny_model
from tunesmith.errors import ResumeError
from tunesmith.train import checkpoints


def staged(folder: Path, step: int) -> None:
    target = folder / checkpoints.STAGING / f"checkpoint-{step}"
    target.mkdir(parents=True)
    checkpoints.save_trainable(tiny_model("llama"), target)
    (target / checkpoints.STATE_FILE).write_text("{}")


def test_only_published_and_whole_checkpoints_count(tmp_path: Path) -> None:
    staged(tmp_path, 10)
    assert checkpoints.last_checkpoint(tmp_path) is None
    checkpoints.publish(tmp_path, 10, keep=None)
    (tmp_path / "checkpoint-20").mkdir()
    found = checkpoints.last_checkpoint(tmp_path)
    assert found is not None
    assert checkpoints.step_of(found) == 10


def test_the_oldest_beyond_the_limit_go(tmp_path: Path) -> None:
    for step in (5, 10, 15):
        staged(tmp_path, step)
        checkpoints.publish(tmp_path, step, keep=2)
    assert [checkpoints.step_of(path) for path in checkpoints.checkpoints_of(tmp_path)] == [10, 15]


def test_frozen_parameters_are_not_saved_and_trained_ones_come_back(tmp_path: Path) -> None:
    model = tiny_model("llama").requires_grad_(False)
    model.model.layers[0].mlp.up_proj.weight.requires_grad_(True)
    checkpoints.save_trainable(model, tmp_path)
    other = tiny_model("llama", seed=3).requires_grad_(False)
    other.model.layers[0].mlp.up_proj.weight.requires_grad_(True)
    before = other.model.norm.weight.clone()
    checkpoints.load_trainable(other, tmp_path)
    assert torch.equal(other.model.layers[0].mlp.up_proj.weight, model.model.layers[0].mlp.up_proj.weight)
    assert torch.equal(other.model.norm.weight, before)


def test_every_mismatch_is_named_with_both_shapes(tmp_path: Path) -> None:
    checkpoints.save_trainable(tiny_model("llama"), tmp_path)
    with pytest.raises(ResumeError, match=r"\(64, 32\), the model's \(48, 32\)"):
        checkpoints.load_trainable(tiny_model("llama", intermediate_size=48), tmp_path)
    with pytest.raises(ResumeError, match="is missing"):
        checkpoints.load_trainable(tiny_model("llama", num_hidden_layers=3), tmp_path)


def test_the_best_weights_replace_each_other_whole(tmp_path: Path) -> None:
    checkpoints.save_best(tiny_model("llama"), tmp_path, step=3, value=1.0)
    checkpoints.save_best(tiny_model("llama", seed=1), tmp_path, step=7, value=0.5)
    assert checkpoints.best_step(tmp_path) == 7
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best"]
