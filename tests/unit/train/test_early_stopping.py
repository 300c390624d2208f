"""Overfitting in words, and when training stops."""

from __future__ import annotations

from types import SimpleNamespace

from tunesmith.train.early_stopping import EarlyStopping, evaluations_of, overfitting


def history(losses: list[float], validation: list[float]) -> list[dict[str, float]]:
    rows: list[dict[str, float]] = [{"step": 0, "eval_loss": 9.0}]
    for number, (loss, value) in enumerate(zip(losses, validation, strict=True), start=1):
        rows += [{"step": number * 10, "loss": loss}, {"step": number * 10, "eval_loss": value}]
    return rows


def stop(rows: list[dict[str, float]], patience: int | None) -> EarlyStopping:
    callback = EarlyStopping(patience, metric="eval_loss", greater_is_better=False)
    control = SimpleNamespace(should_training_stop=False)
    callback.on_evaluate(None, SimpleNamespace(log_history=rows, global_step=int(rows[-1]["step"])), control)
    assert control.should_training_stop is (callback.reason is not None)
    return callback


def test_the_untouched_model_is_no_evaluation() -> None:
    assert [evaluation.step for evaluation in evaluations_of(history([1.0], [2.0]), "eval_loss")] == [10]


def test_rising_validation_under_falling_training_is_named_with_its_step() -> None:
    sign = overfitting(evaluations_of(history([1.0, 0.8, 0.5], [2.0, 1.5, 1.9]), "eval_loss"))
    assert sign is not None
    assert "since step 20" in sign
    assert "1.5000 -> 1.9000" in sign
    assert "0.8000 -> 0.5000" in sign


def test_no_sign_when_both_rise_or_both_fall() -> None:
    assert overfitting(evaluations_of(history([1.0, 1.2], [2.0, 2.5]), "eval_loss")) is None
    assert overfitting(evaluations_of(history([1.0, 0.5], [2.0, 1.5]), "eval_loss")) is None


def test_stops_when_patience_is_used_up_and_not_before() -> None:
    rows = history([1.0, 0.8, 0.6, 0.4, 0.3], [2.0, 1.5, 1.6, 1.7, 1.8])
    assert stop(rows[:-2], patience=3).reason is None
    reason = stop(rows, patience=3).reason
    assert reason is not None
    assert "the weights of step 20 are kept" in reason
    assert stop(rows, patience=None).reason is None


def test_a_metric_that_should_rise() -> None:
    callback = EarlyStopping(1, metric="eval_token_accuracy", greater_is_better=True)
    rows = [{"step": 1, "eval_token_accuracy": 0.5}, {"step": 2, "eval_token_accuracy": 0.9}, {"step": 3, "eval_token_accuracy": 0.8}]
    control = SimpleNamespace(should_training_stop=False)
    callback.on_evaluate(None, SimpleNamespace(log_history=rows[:2], global_step=2), control)
    assert not control.should_training_stop
    callback.on_evaluate(None, SimpleNamespace(log_history=rows, global_step=3), control)
    assert control.should_training_stop


def test_a_metric_of_which_more_is_better_falls() -> None:
    rows = [{("eval_f1" if name == "eval_loss" else name): value for name, value in row.items()} for row in history([1.0, 0.5], [0.9, 0.6])]
    seen = evaluations_of(rows, "eval_f1", greater_is_better=True)
    sign = overfitting(seen, "eval_f1", greater_is_better=True)
    assert sign is not None
    assert sign.startswith("validation f1 has fallen since step 10 (0.9000 -> 0.6000)")
    rising = [
        {("eval_f1" if name == "eval_loss" else name): value for name, value in row.items()} for row in history([1.0, 0.5], [0.6, 0.9])
    ]
    assert overfitting(evaluations_of(rising, "eval_f1", greater_is_better=True), "eval_f1", greater_is_better=True) is None
