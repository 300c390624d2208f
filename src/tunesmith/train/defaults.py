"""What training uses when the user names nothing, each with its reason; what was chosen is printed and recorded."""

from __future__ import annotations

import math
from dataclasses import dataclass

DEFAULT_BATCH_SIZE = 16
DEFAULT_SEED = 42
DEFAULT_EPOCHS = 3.0
MINIMUM_STEPS = 100
MAXIMUM_EPOCHS = 10
TARGET_EVALUATIONS = (3, 12)
# An evaluation is a forward pass: about a third of a training step a row. Together they may take a tenth of the training's time.
EVALUATION_SHARE = 0.1
EVALUATION_COST = 1 / 3


@dataclass(frozen=True)
class Schedule:
    """How long to train and how often to look.

    Attributes:
        total_steps: optimizer steps of the whole run.
        epochs: passes over the data; ``max_steps`` counts instead when it is set.
        logging_steps, eval_steps, save_steps: steps between two logs, evaluations, checkpoints; ``eval_steps`` 0 = none.
    """

    total_steps: int
    epochs: float
    logging_steps: int
    eval_steps: int
    save_steps: int


def choose_epochs(num_rows: int, rows_per_step: int) -> float:
    """Three epochs; more for small data, so that there are about 100 steps, at most ten.

    Small models on small data still gain in the second and third epoch; best-checkpoint selection and early stopping undo what is too much.
    """
    steps_per_epoch = max(1, math.ceil(num_rows / rows_per_step))
    return float(min(MAXIMUM_EPOCHS, max(DEFAULT_EPOCHS, math.ceil(MINIMUM_STEPS / steps_per_epoch))))


def choose_schedule(
    *,
    num_rows: int,
    num_validation: int,
    batch_size: int,
    accumulation: int,
    epochs: float | None,
    max_steps: int | None,
    logging_steps: int | None,
    eval_steps: int | None,
    save_steps: int | None,
) -> Schedule:
    """Work out the number of steps and how often to log, evaluate and save.

    Args:
        num_rows, num_validation: rows of both sets.
        batch_size, accumulation: rows a batch, batches a step.
        epochs, max_steps, logging_steps, eval_steps, save_steps: what the user asked for, None = chosen here.
    """
    rows_per_step = batch_size * accumulation
    steps_per_epoch = max(1, math.ceil(math.ceil(num_rows / batch_size) / accumulation))
    if max_steps:
        epochs = max_steps / steps_per_epoch
        total = max_steps
    else:
        epochs = choose_epochs(num_rows, rows_per_step) if epochs is None else epochs
        total = max(1, math.ceil(epochs * steps_per_epoch))
    if num_validation and eval_steps is None:
        affordable = EVALUATION_SHARE * total * rows_per_step / (EVALUATION_COST * num_validation)
        evaluations = min(max(round(affordable), TARGET_EVALUATIONS[0]), TARGET_EVALUATIONS[1])
        eval_steps = max(1, math.ceil(total / evaluations))
    return Schedule(
        total_steps=total,
        epochs=epochs,
        logging_steps=logging_steps or max(1, min(10, total // 20)),
        eval_steps=(eval_steps or 0) if num_validation else 0,
        save_steps=save_steps or max(1, (eval_steps or math.ceil(total / 4)) if num_validation else math.ceil(total / 4)),
    )


def warmup_steps(total_steps: int) -> int:
    """Three percent of the steps, at most 100: Adam's second moment has seen nothing yet.

    None below 50 steps: transformers starts a warm-up at a learning rate of zero, and one step in 50 is too many to waste.
    """
    return min(100, round(0.03 * total_steps)) if total_steps >= 50 else 0
