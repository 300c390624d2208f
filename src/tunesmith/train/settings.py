"""From options to what transformers' Trainer takes: our defaults where the user named nothing."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tunesmith.errors import UsageError
from tunesmith.metrics.protocol import Metric
from tunesmith.train.defaults import DEFAULT_BATCH_SIZE, DEFAULT_SEED, Schedule, choose_schedule, warmup_steps

log = logging.getLogger(__name__)

# Arguments that this module works out or that the subclassed trainer does itself.
OWN_ARGUMENTS = {"load_best_model_at_end", "metric_for_best_model", "greater_is_better", "bf16", "fp16", "report_to"}


@dataclass(frozen=True)
class Plan:
    """What will be trained and how, with the reasons for what nobody asked for.

    Attributes:
        arguments: keyword arguments of ``transformers.TrainingArguments``.
        schedule: steps, and how often to log, evaluate and save.
        reporters: names of experiment loggers.
        patience: evaluations without a better one before training stops, or None.
        keep_best: whether the best weights are kept rather than the last.
        best_metric, greater_is_better: which metric decides.
        chosen: option -> value, for everything chosen here.
    """

    arguments: Mapping[str, Any]
    schedule: Schedule
    reporters: tuple[str, ...]
    patience: int | None
    keep_best: bool
    best_metric: str
    greater_is_better: bool
    chosen: Mapping[str, object]


def make_plan(
    training: Mapping[str, Any],
    *,
    checkpoints: Path,
    num_rows: int,
    num_validation: int,
    learning_rate: float,
    patience: int | None,
    use_cpu: bool,
) -> Plan:
    """Fill in what the user left open.

    Args:
        training: the ``TrainingArguments`` that were given, typed.
        checkpoints: folder for checkpoints.
        num_rows, num_validation: rows of both sets.
        learning_rate: the method's default peak.
        patience: ``--early_stopping_patience``; None = 3, 0 = never.
        use_cpu: whether no GPU is to be used.

    Raises:
        UsageError: when arguments contradict each other or the data.
    """
    given = {name: value for name, value in training.items() if value is not None}
    batch_size = given.get("per_device_train_batch_size", min(DEFAULT_BATCH_SIZE, num_rows))
    max_steps = given.get("max_steps")
    schedule = choose_schedule(
        num_rows=num_rows,
        num_validation=0 if given.get("eval_strategy") == "no" else num_validation,
        batch_size=batch_size,
        accumulation=given.get("gradient_accumulation_steps", 1),
        epochs=given.get("num_train_epochs"),
        max_steps=max_steps if max_steps and max_steps > 0 else None,
        logging_steps=_whole_steps(given, "logging_steps"),
        eval_steps=_whole_steps(given, "eval_steps"),
        save_steps=_whole_steps(given, "save_steps"),
    )
    check_combinations(given, num_validation=num_validation)
    defaults: dict[str, Any] = {
        "per_device_train_batch_size": batch_size,
        "learning_rate": learning_rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": warmup_steps(schedule.total_steps),
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "num_train_epochs": schedule.epochs,
        "logging_steps": schedule.logging_steps,
        "save_steps": schedule.save_steps,
        "eval_strategy": "steps" if schedule.eval_steps else "no",
        "seed": DEFAULT_SEED,
    }
    if schedule.eval_steps:
        defaults["eval_steps"] = schedule.eval_steps
        defaults["eval_on_start"] = True  # the untouched model's loss, to see what training changed
    metric = str(given.get("metric_for_best_model") or "eval_loss")
    metric = metric if metric.startswith("eval_") else f"eval_{metric}"
    arguments = {**defaults, **{name: value for name, value in given.items() if name not in OWN_ARGUMENTS}}
    arguments.update(output_dir=str(checkpoints), report_to="none", disable_tqdm=True, logging_nan_inf_filter=False, use_cpu=use_cpu)
    return Plan(
        arguments=arguments,
        schedule=schedule,
        reporters=_reporters(given.get("report_to")),
        patience=(3 if patience is None else patience or None) if schedule.eval_steps else None,
        keep_best=bool(given.get("load_best_model_at_end", True)) and schedule.eval_steps > 0,
        best_metric=metric,
        greater_is_better=bool(given.get("greater_is_better", not metric.endswith(("loss", "perplexity")))),
        chosen={name: value for name, value in defaults.items() if name not in given},
    )


def decided_by(plan: Plan, metrics: Sequence[Metric], *, given: Mapping[str, Any]) -> Plan:
    """Return the plan with ``--metric_for_best_model`` as a figure's name where it names a metric: ``f1`` means ``eval_f1_macro``.

    Args:
        metrics: what evaluations measure besides.
        given: the training arguments that somebody gave.
    """
    for metric in metrics:
        if plan.best_metric in (f"eval_{metric.name}", f"eval_{metric.headline}"):
            better = metric.greater_is_better if given.get("greater_is_better") is None else plan.greater_is_better
            return replace(plan, best_metric=f"eval_{metric.headline}", greater_is_better=better)
    return plan


def check_combinations(given: Mapping[str, Any], *, num_validation: int) -> None:
    """Refuse what has no effect or can't work.

    Raises:
        UsageError: naming the arguments.
    """
    if not num_validation and given.get("eval_steps") is not None:
        raise UsageError(
            "--eval_steps needs validation rows, and there are none", fix="Name some with --eval_split or --validation_fraction."
        )
    if given.get("eval_strategy") == "no" and given.get("load_best_model_at_end"):
        raise UsageError("--load_best_model_at_end needs evaluations, but --eval_strategy is no", fix="Leave one of them out.")
    if given.get("push_to_hub"):
        raise UsageError(
            "--push_to_hub is not taken by finetune: nothing leaves this machine by itself",
            fix="Upload the finished adapter with: hf upload.",
        )


def _whole_steps(given: Mapping[str, Any], name: str) -> int | None:
    """Steps as a number; a ratio (< 1) is left to transformers, which reads it as a share of all steps."""
    value = given.get(name)
    return int(value) if value is not None and value >= 1 else None


def _reporters(report_to: Any) -> tuple[str, ...]:
    """Loggers by name; by default TensorBoard where it is installed."""
    if report_to is None:
        return ("tensorboard",) if importlib.util.find_spec("tensorboard") else ()
    names = [report_to] if isinstance(report_to, str) else list(report_to)
    return tuple(name for name in names if name not in ("none", "[]"))
