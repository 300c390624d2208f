"""Checkpoints of a run: written aside, then renamed, so that a killed run leaves whole ones only.

RUN/checkpoints/checkpoint-100/   trainable.safetensors, optimizer.pt, scheduler.pt, rng_state.pth, trainer_state.json
RUN/checkpoints/best/             trainable.safetensors of the best evaluation
RUN/checkpoints/run.json          what the run was started with, to refuse resuming something else
RUN/checkpoints/finished.json     training is over; only the results may be missing
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from tunesmith.artifact import new_folder, write_file_atomically
from tunesmith.errors import ResumeError

TRAINABLE_FILE = "trainable.safetensors"
STATE_FILE = "trainer_state.json"
STAGING = ".staging"
BEST = "best"
PREFIX = "checkpoint-"


def save_trainable(model: nn.Module, folder: Path) -> None:
    """Write every parameter that requires a gradient to ``folder/trainable.safetensors``, by its name in the model."""
    tensors = {name: parameter.detach().cpu().contiguous() for name, parameter in model.named_parameters() if parameter.requires_grad}
    save_file(tensors, folder / TRAINABLE_FILE)


def load_trainable(model: nn.Module, folder: Path) -> None:
    """Read what :func:`save_trainable` wrote into the same model.

    Raises:
        ResumeError: when a parameter is missing, too much, or of another shape; every mismatch is named with both shapes.
    """
    parameters = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    with safe_open(folder / TRAINABLE_FILE, framework="pt") as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 - not a dict
        problems = [f"{name} is missing" for name in parameters.keys() - shapes.keys()]
        problems += [f"{name} is not in the model" for name in shapes.keys() - parameters.keys()]
        problems += [
            f"{name} is {shapes[name]}, the model's {tuple(parameter.shape)}"
            for name, parameter in parameters.items()
            if name in shapes and shapes[name] != tuple(parameter.shape)
        ]
        if problems:
            shown = "; ".join(sorted(problems)[:3]) + (f" and {len(problems) - 3} more" if len(problems) > 3 else "")
            raise ResumeError(f"{folder} does not fit this model: {shown}", fix="Resume with the options the run was started with.")
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(file.get_tensor(name))


def step_of(checkpoint: Path) -> int:
    """Return the optimizer step that a ``checkpoint-N`` folder was written after."""
    return int(checkpoint.name.removeprefix(PREFIX))


def checkpoints_of(folder: Path) -> list[Path]:
    """Return the whole checkpoints below ``folder``, oldest first."""
    found = [path for path in folder.glob(f"{PREFIX}*") if path.name.removeprefix(PREFIX).isdigit()]
    return sorted((path for path in found if (path / STATE_FILE).is_file() and (path / TRAINABLE_FILE).is_file()), key=step_of)


def last_checkpoint(folder: Path) -> Path | None:
    """Return the newest whole checkpoint, or None."""
    found = checkpoints_of(folder)
    return found[-1] if found else None


def publish(folder: Path, step: int, *, keep: int | None) -> Path:
    """Give the staged ``checkpoint-step`` its final name and remove the oldest beyond ``keep``."""
    staged, final = folder / STAGING / f"{PREFIX}{step}", folder / f"{PREFIX}{step}"
    if final.exists():
        shutil.rmtree(final)
    os.replace(staged, final)
    shutil.rmtree(folder / STAGING, ignore_errors=True)
    if keep is not None:
        for old in checkpoints_of(folder)[: -max(keep, 1)]:
            shutil.rmtree(old, ignore_errors=True)
    return final


def remove_unfinished(run_folder: Path) -> None:
    """Remove what a killed run was writing aside, in its folder and among its checkpoints."""
    for folder in (run_folder, run_folder / "checkpoints"):
        for path in folder.glob(".*"):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def save_best(model: nn.Module, folder: Path, *, step: int, value: float) -> None:
    """Keep the trainable weights of the best evaluation so far."""
    with new_folder(folder / BEST, part_of_run=True) as best:
        save_trainable(model, best)
        (best / "best.json").write_text(json.dumps({"step": step, "value": value}))


def best_step(folder: Path) -> int | None:
    """Return the step whose weights are in ``checkpoints/best``, or None."""
    file = folder / BEST / "best.json"
    return int(json.loads(file.read_text())["step"]) if file.is_file() else None


def write_run_file(folder: Path, content: Mapping[str, object]) -> None:
    """Record what the run is started with."""
    write_file_atomically(folder / "run.json", json.dumps(content, indent=2, default=str))


def read_run_file(folder: Path) -> dict[str, object] | None:
    """Return what the run was started with, or None when there is no run in ``folder``."""
    file = folder / "run.json"
    if not file.is_file():
        return None
    try:
        content = json.loads(file.read_text())
    except ValueError as error:
        raise ResumeError(f"{file} can't be read: {error}", fix="Start afresh with --overwrite.") from error
    return dict(content)


def mark_finished(folder: Path, *, step: int, reason: str) -> None:
    """Record that training is over, so that a run killed while it wrote its results need not train again."""
    write_file_atomically(folder / "finished.json", json.dumps({"step": step, "reason": reason}))


def finished_reason(folder: Path) -> str | None:
    """Return why training ended, or None while it has not."""
    file = folder / "finished.json"
    return str(json.loads(file.read_text())["reason"]) if file.is_file() else None
