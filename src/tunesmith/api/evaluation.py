"""Measuring one model: on a test set, or on benchmarks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.api.answering import load

if TYPE_CHECKING:
    from tunesmith.evaluate.evaluation import Evaluation
    from tunesmith.evaluate.test_set import TestSet


def evaluate(
    path: str | Path | None = None,
    data: TestSet | None = None,
    *,
    metrics: Sequence[str] | None = None,
    limit: int | None = None,
    max_new_tokens: int = 256,
    batch_size: int | None = None,
    labels: Sequence[str] | None = None,
    reference_column: str | None = None,
    map_columns: Mapping[str, str] | None = None,
    text_template: str | None = None,
    constrain: bool = True,
    output_path: str | Path | None = None,
    overwrite: bool = False,
    **loading: Any,
) -> Evaluation:
    """Measure a model on a test set.

    Args:
        path: what :func:`load` takes.
        data: a file or several, a list of rows, or a ``datasets.Dataset``; by default the rows that a run held out of its training.
        metrics: names, or ``file.py:function``; by default those usual for the task. ``docs/evaluate.md`` lists them.
        limit: measure the first so many rows only.
        max_new_tokens: where an answer that doesn't end by itself is cut.
        batch_size: rows at once; by default as many as a budget of tokens allows.
        labels: labels to choose among, for a model that writes text and was not trained on labels.
        reference_column: where the right answer (or a list of them) is; by default the column of training.
        map_columns: old name -> new name, before anything else.
        text_template: how a row becomes a prompt, for a model that was not tuned here.
        constrain: hold answers to the schema, or the labels, that the model was trained on.
        output_path: a folder for ``predictions.jsonl`` and ``metrics.json``.
        overwrite: replace these files when they are there already.
        **loading: further arguments of :func:`load`.

    Returns: figures by name, one number a row for each metric that has one, speed and size.
    Raises:
        UserError: for whatever the caller can mend, before the model is loaded where that is possible.

    Example:
        >>> tunesmith.evaluate("out", "test.jsonl", metrics=["accuracy", "f1"]).metrics["accuracy"]  # doctest: +SKIP
    """
    from tunesmith.evaluate.evaluation import evaluate as evaluate_runtime
    from tunesmith.evaluate.result_files import check_free, write_metrics
    from tunesmith.evaluate.test_set import read_test_set
    from tunesmith.metrics import check_metrics

    check_metrics(metrics)
    predictions_file = check_free(output_path, overwrite=overwrite)
    rows = read_test_set(data, path, map_columns=map_columns)
    found = evaluate_runtime(
        load(path, **loading),
        rows,
        metrics=metrics,
        limit=limit,
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
        labels=labels or (),
        reference_column=reference_column,
        text_template=text_template,
        constrain=constrain,
        predictions_file=predictions_file,
    )
    if output_path is not None:
        write_metrics(Path(output_path), found)
    return found


def evaluate_benchmarks(
    path: str | Path | None,
    tasks: Sequence[str],
    *,
    limit: int | None = None,
    num_fewshot: int | None = None,
    include_path: str | Path | None = None,
    batch_size: int | None = None,
    output_path: str | Path | None = None,
    overwrite: bool = False,
    **loading: Any,
) -> Evaluation:
    """Ask a model the tasks of lm-eval; needs the extra ``eval``.

    Args:
        path: what :func:`load` takes.
        tasks: names of lm-eval's tasks, or of your own in ``include_path``.
        limit: questions of each task at most.
        num_fewshot: solved examples before each question; None for what the task says.
        include_path: a folder of task files (YAML).
        batch_size: answers generated at once.
        output_path: a folder for ``predictions.jsonl`` and ``metrics.json``.
        overwrite: replace these files when they are there already.
        **loading: further arguments of :func:`load`.

    Returns: figures by ``task/metric``.
    Raises:
        UserError: for a task that doesn't exist or whose data can't be read, and as :func:`load`.
    """
    from tunesmith.evaluate.benchmarks import Harness
    from tunesmith.evaluate.result_files import check_free, write_metrics

    harness = Harness(include_path)
    harness.check(tasks)
    file = check_free(output_path, overwrite=overwrite)
    found = harness.run(load(path, **loading), tasks, limit=limit, num_fewshot=num_fewshot, batch_size=batch_size, predictions_file=file)
    if output_path is not None:
        write_metrics(Path(output_path), found)
    return found


def evaluate_model(
    model_path: str | Path, test_dataset: TestSet, metric_type: str | Sequence[str] = "accuracy", **options: Any
) -> dict[str, float]:
    """Measure a model on a test set and return figures by name, such as ``{"accuracy": 0.93}``.

    Args:
        model_path: what :func:`load` takes.
        test_dataset: a file, a list of rows, or a ``datasets.Dataset``, with the columns of training and the right answers.
        metric_type: a metric, several separated by commas, or a list of them.
        **options: further arguments of :func:`evaluate`.

    Raises:
        UserError: as :func:`evaluate`.
    """
    names = [name.strip() for name in metric_type.split(",")] if isinstance(metric_type, str) else list(metric_type)
    return evaluate(model_path, test_dataset, metrics=names, **options).metrics
