"""One training from its first step (or a checkpoint) to its last: trainer, watchers and loggers."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PrinterCallback, ProgressCallback, TrainerCallback, TrainerState, TrainingArguments
from transformers.trainer_utils import set_seed

from tunesmith.data.prepare import Prepared
from tunesmith.data.task_file import TaskRecord
from tunesmith.errors import DependencyError, UsageError
from tunesmith.metrics.protocol import Metric
from tunesmith.tasks.protocol import Task
from tunesmith.train import checkpoints
from tunesmith.train.early_stopping import EarlyStopping, evaluations_of, overfitting
from tunesmith.train.gauges import GIB, Gauges
from tunesmith.train.generation import Generation
from tunesmith.train.interrupt import Interrupted, SaveOnInterrupt
from tunesmith.train.metrics_log import MetricsLog
from tunesmith.train.progress import ProgressLine
from tunesmith.train.settings import Plan
from tunesmith.train.trainer import StepSettings, SupervisedTrainer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What a training came to.

    Attributes:
        steps: optimizer steps taken in all.
        kept_step: the step whose weights the model now has.
        reason: why it stopped before its last planned step, or None.
        sign: a sign of overfitting in words, or None.
        history: the trainer's log rows.
        training_s: seconds spent in training steps in this process.
        peak_gib: most memory this process held during training.
    """

    steps: int
    kept_step: int
    reason: str | None
    sign: str | None
    history: list[dict[str, float]]
    training_s: float
    peak_gib: float


def train(
    model: nn.Module,
    rows: Prepared,
    validation: Prepared | None,
    plan: Plan,
    step_settings: StepSettings,
    *,
    run_folder: Path,
    logging_dir: Path,
    resume_from: Path | None,
    command: str,
    task: Task | None = None,
    metrics: Sequence[Metric] = (),
    generation_metrics: Callable[[], dict[str, float]] | None = None,
) -> Outcome:
    """Train ``model`` in place; afterwards it has the best weights (or the last, where there was no evaluation).

    Args:
        model: with trainable and frozen parameters as the method left them.
        rows, validation: tokenized rows to train on and, if any, to validate on.
        plan, step_settings: see there.
        run_folder: for ``metrics.jsonl`` and checkpoints.
        logging_dir: for experiment loggers.
        resume_from: a checkpoint to go on from.
        command: what the user would type to go on, for the message on Ctrl-C.
        task: what is learnt; text generation when None.
        metrics: more figures at each evaluation.
        generation_metrics: scores answers at each evaluation.

    Raises:
        NonFiniteLoss: for the caller to retry from the last checkpoint.
        Interrupted: after Ctrl-C, when a checkpoint has been saved.
    """
    folder = run_folder / "checkpoints"
    gauges, stopping = Gauges(run_folder), EarlyStopping(plan.patience, metric=plan.best_metric, greater_is_better=plan.greater_is_better)
    interrupt, line = SaveOnInterrupt(), ProgressLine()
    arguments = TrainingArguments(**_arguments(plan, resumed=resume_from is not None))
    trainer = SupervisedTrainer(
        model=model,
        args=arguments,
        rows=rows,
        eval_dataset=validation.dataset if validation else None,
        settings=step_settings,
        task=task or Generation(TaskRecord()),
        metrics=metrics,
        callbacks=[gauges, *_loggers(plan.reporters, logging_dir), MetricsLog(run_folder / "metrics.jsonl"), stopping, line, interrupt],
        generation_metrics=generation_metrics,
    )
    for callback in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(callback)
    gauges.trainer = trainer
    set_seed(arguments.seed)
    started = time.perf_counter()
    try:
        trainer.train(resume_from_checkpoint=None if resume_from is None else str(resume_from))
    finally:
        line.close()
        interrupt.release()
    if interrupt.asked:
        raise Interrupted(f"stopped at step {trainer.state.global_step}, which is saved; go on with: {command}")
    reason = stopping.reason
    checkpoints.mark_finished(folder, step=trainer.state.global_step, reason=reason or "")
    seconds = gauges.training_s or time.perf_counter() - started
    return _outcome(model, folder, trainer.state, plan, reason=reason, training_s=seconds, peak_gib=gauges.peak_bytes / GIB)


def keep_best_weights(model: nn.Module, folder: Path, *, last: int) -> int:
    """Give the model the weights of the best evaluation; returns their step."""
    best = checkpoints.best_step(folder)
    if best is None:
        return last
    checkpoints.load_trainable(model, folder / checkpoints.BEST)
    return best


def finished_outcome(model: nn.Module, folder: Path, last: Path, plan: Plan, reason: str) -> Outcome:
    """Rebuild the outcome of a training that ended but whose results were not written, and give the model its weights."""
    state = TrainerState.load_from_json(str(last / checkpoints.STATE_FILE))
    checkpoints.load_trainable(model, last)
    return _outcome(model, folder, state, plan, reason=reason or None, training_s=0.0, peak_gib=0.0)


def _outcome(
    model: nn.Module, folder: Path, state: TrainerState, plan: Plan, *, reason: str | None, training_s: float, peak_gib: float
) -> Outcome:
    """Give the model the weights that are kept, and say what the training came to."""
    kept = keep_best_weights(model, folder, last=state.global_step) if plan.keep_best else state.global_step
    seen = evaluations_of(state.log_history, plan.best_metric, greater_is_better=plan.greater_is_better)
    sign = overfitting(seen, plan.best_metric, greater_is_better=plan.greater_is_better)
    return Outcome(state.global_step, kept, reason, sign, state.log_history, training_s, peak_gib)


def _arguments(plan: Plan, *, resumed: bool) -> dict[str, Any]:
    arguments = dict(plan.arguments)
    if resumed:
        arguments["eval_on_start"] = False  # it was done when the run began
    if torch.backends.mps.is_available() or not torch.cuda.is_available():
        arguments.setdefault("dataloader_pin_memory", False)
    return arguments


def _loggers(names: tuple[str, ...], logging_dir: Path) -> list[TrainerCallback]:
    """Experiment loggers by the names transformers knows; TensorBoard writes into ``logging_dir``."""
    from transformers.integrations import get_reporting_integration_callbacks

    found: list[TrainerCallback] = []
    for name in names:
        if name == "tensorboard":
            try:
                from torch.utils.tensorboard import SummaryWriter
                from transformers.integrations import TensorBoardCallback
            except ImportError as error:
                raise DependencyError("tensorboard", "tensorboard", purpose="--report_to tensorboard") from error
            found.append(TensorBoardCallback(SummaryWriter(log_dir=str(logging_dir))))
            continue
        try:
            (callback,) = get_reporting_integration_callbacks([name])
            found.append(callback())
        except (ValueError, KeyError) as error:
            raise UsageError(
                f"--report_to {name}: transformers knows no such logger", fix="Known ones include tensorboard, wandb, mlflow, trackio."
            ) from error
        except (RuntimeError, ImportError) as error:
            raise UsageError(f"--report_to {name}: {error}", fix=f"Install it: pip install {name}") from error
    return found
