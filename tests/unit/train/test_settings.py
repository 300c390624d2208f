"""What training uses when nothing is named, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tunesmith.errors import UsageError
from tunesmith.metrics import load_metric
from tunesmith.train.defaults import choose_epochs, choose_schedule
from tunesmith.train.settings import Plan, decided_by, make_plan


def plan(training: dict[str, Any] | None = None, *, rows: int = 1000, validation: int = 100, patience: int | None = None) -> Plan:
    return make_plan(
        training or {},
        checkpoints=Path("run/checkpoints"),
        num_rows=rows,
        num_validation=validation,
        learning_rate=1e-3,
        patience=patience,
        use_cpu=True,
    )


@pytest.mark.parametrize(("rows", "epochs"), [(10_000, 3), (200, 8), (20, 10), (1, 10)])
def test_small_data_gets_more_epochs(rows: int, epochs: float) -> None:
    assert choose_epochs(rows, 16) == epochs


def test_evaluations_take_about_a_tenth_of_the_time() -> None:
    schedule = choose_schedule(
        num_rows=9000,
        num_validation=1000,
        batch_size=16,
        accumulation=1,
        epochs=3,
        max_steps=None,
        logging_steps=None,
        eval_steps=None,
        save_steps=None,
    )
    evaluations = schedule.total_steps / schedule.eval_steps
    assert 7 <= evaluations <= 9
    assert schedule.total_steps == 3 * 563


def test_what_is_given_wins_and_the_rest_is_recorded_as_chosen() -> None:
    made = plan({"learning_rate": 5e-4, "max_steps": 30})
    assert made.arguments["learning_rate"] == 5e-4
    assert made.schedule.total_steps == 30
    assert "learning_rate" not in made.chosen
    assert made.chosen["lr_scheduler_type"] == "cosine"


def test_no_validation_means_no_evaluation_no_patience_and_the_last_weights() -> None:
    made = plan(validation=0)
    assert made.arguments["eval_strategy"] == "no"
    assert made.patience is None
    assert not made.keep_best


def test_patience_defaults_to_three_and_zero_means_never() -> None:
    assert plan().patience == 3
    assert plan(patience=0).patience is None


@pytest.mark.parametrize(
    ("training", "validation", "words"),
    [
        ({"eval_steps": 5.0}, 0, "--eval_steps"),
        ({"eval_strategy": "no", "load_best_model_at_end": True}, 10, "--load_best_model_at_end"),
        ({"push_to_hub": True}, 10, "--push_to_hub"),
    ],
)
def test_options_without_effect_are_refused(training: dict[str, Any], validation: int, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        plan(training, validation=validation)


def test_a_metrics_name_stands_for_its_figure() -> None:
    metric = load_metric("f1")
    asked = decided_by(plan({"metric_for_best_model": "f1"}), [metric], given={})
    assert (asked.best_metric, asked.greater_is_better) == (f"eval_{metric.headline}", True)
    turned = decided_by(plan({"metric_for_best_model": "f1", "greater_is_better": False}), [metric], given={"greater_is_better": False})
    assert turned.greater_is_better is False
    other = plan({"metric_for_best_model": "accuracy"})
    assert decided_by(other, [metric], given={}) == other
