"""Signs of overfitting, said in words, and the end of a training that only gets worse."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from transformers import TrainerCallback

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluation:
    """What one evaluation saw: the step, the deciding metric (lower is better) and the training loss since the last one."""

    step: int
    value: float
    training_loss: float | None


def evaluations_of(history: Sequence[dict[str, float]], metric: str, *, greater_is_better: bool = False) -> list[Evaluation]:
    """Read the evaluations out of a trainer's log history; the mean training loss between two goes with the later one."""
    found: list[Evaluation] = []
    losses: list[float] = []
    for row in history:
        if "loss" in row:
            losses.append(row["loss"])
        if metric in row and row.get("step", 0) > 0:
            value = -row[metric] if greater_is_better else row[metric]
            found.append(Evaluation(int(row["step"]), value, sum(losses) / len(losses) if losses else None))
            losses = []
    return found


def overfitting(evaluations: Sequence[Evaluation], metric: str = "eval_loss", *, greater_is_better: bool = False) -> str | None:
    """Say since when validation got worse while training still got better, or None where it didn't.

    Args:
        evaluations: as :func:`evaluations_of` reads them.
        metric, greater_is_better: the deciding metric, as it was given there.
    """
    if len(evaluations) < 2:
        return None
    best = min(evaluations, key=lambda evaluation: evaluation.value)
    last = evaluations[-1]
    if last.step <= best.step or best.training_loss is None or last.training_loss is None:
        return None
    if last.value - best.value > 0.01 * abs(best.value) and last.training_loss < best.training_loss:
        sign, moved = (-1, "fallen") if greater_is_better else (1, "risen")
        what = "loss" if metric == "eval_loss" else metric.removeprefix("eval_").replace("_", " ")
        return (
            f"validation {what} has {moved} since step {best.step} ({sign * best.value:.4f} -> {sign * last.value:.4f}) "
            f"while training loss fell ({best.training_loss:.4f} -> {last.training_loss:.4f})"
        )
    return None


class EarlyStopping(TrainerCallback):  # type: ignore[misc]  # transformers is untyped
    """Stops after ``patience`` evaluations without a better one.

    It keeps no state of its own: what it needs is in the trainer's log history, so a resumed run decides as the uninterrupted one.
    """

    def __init__(self, patience: int | None, *, metric: str, greater_is_better: bool) -> None:
        self.patience = patience
        self.metric = metric
        self.greater_is_better = greater_is_better
        self.reason: str | None = None
        self._said = False

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Look back over all evaluations; warn of overfitting once, stop when patience is used up."""
        evaluations = evaluations_of(state.log_history, self.metric, greater_is_better=self.greater_is_better)
        if not evaluations or not state.global_step:
            return
        best = min(evaluations, key=lambda evaluation: evaluation.value)
        worse = [evaluation for evaluation in evaluations if evaluation.step > best.step]
        sign = overfitting(evaluations, self.metric, greater_is_better=self.greater_is_better)
        if self.patience is not None and len(worse) >= self.patience:
            why = sign or f"{self.metric} has not improved since step {best.step}"
            self.reason = (
                f"{why}: stopped, the weights of step {best.step} are kept; "
                "try more or more varied rows, a lower --learning_rate, or a higher --lora_dropout or --weight_decay"
            )
            control.should_training_stop = True
        elif sign and not self._said:
            self._said = True
            log.warning("sign of overfitting: %s; the weights of step %d are kept so far", sign, best.step)
