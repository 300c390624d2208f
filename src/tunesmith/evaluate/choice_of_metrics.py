"""Which metrics a task is measured by, and whether one that was asked for fits."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tunesmith.errors import UsageError
from tunesmith.metrics import MEASUREMENTS, METRICS, load_metric
from tunesmith.metrics.protocol import Metric, Needs

if TYPE_CHECKING:
    from tunesmith.data.task_file import TaskRecord

_USUAL: dict[str, tuple[str, ...]] = {
    "text-generation": ("exact_match", "token_f1", "bleu", "chrf", "rouge", "perplexity"),
    "summarization": ("rouge", "chrf", "perplexity"),
    "extraction": ("extraction", "exact_match", "perplexity"),
    "text-classification": ("accuracy", "balanced_accuracy", "f1", "calibration"),
    "token-classification": ("span_f1",),
    "similarity": ("spearman", "auc", "threshold_accuracy"),
}
_WORDS: dict[Needs, str] = {
    "text": "text",
    "choices": "labels",
    "probabilities": "probabilities of labels",
    "spans": "tagged spans",
    "scores": "a score for a pair of texts",
    "likelihood": "the likelihood of text",
}


def choose_metrics(
    wanted: Sequence[str | Metric] | None, task: TaskRecord, offers: frozenset[Needs], rows: Sequence[Mapping[str, Any]]
) -> tuple[list[Metric], frozenset[str]]:
    """Return the metrics to compute and the measurements to take.

    Args:
        wanted: names or metrics; None for the usual ones of the task, as far as its answers allow.
        task: what the model does.
        offers: what its answers can be measured by.
        rows: a few rows of the test set.

    Raises:
        UsageError: for a metric that is unknown or needs what the task doesn't give.
    """
    if wanted is None:
        usual = [load_metric(name) for name in _USUAL.get(task.name, _USUAL["text-generation"])]
        return [metric for metric in usual if metric.needs in offers and _is_defined(metric, task, rows)], frozenset()
    names = [name for name in wanted if isinstance(name, str)]
    if not wanted:
        raise UsageError("--metrics names no metric", fix=f"Known: {', '.join(METRICS.names())}, or file.py:function")
    metrics = [load_metric(name) if isinstance(name, str) else name for name in dict.fromkeys(wanted) if name not in MEASUREMENTS]
    for metric in metrics:
        if metric.needs not in offers:
            fitting = [name for name in METRICS.names() if load_metric(name).needs in offers]
            message = f"the metric {metric.name} needs {_WORDS[metric.needs]}, which a model for {task.name} doesn't give here"
            raise UsageError(message, fix=f"Metrics that fit: {', '.join(fitting)}")
    return metrics, frozenset(names) & frozenset(MEASUREMENTS)


def fit_to_task(metric: Metric, task: TaskRecord) -> Metric:
    """Return a metric that knows what the task says: the schema of answers, the threshold, whether several labels can be right."""
    known: Mapping[str, Any] = {"schema": task.schema, "threshold": task.threshold, "multi_label": task.multi_label or None}
    if not dataclasses.is_dataclass(metric) or isinstance(metric, type):
        return metric
    names = {field.name for field in dataclasses.fields(metric)}
    changed = {name: value for name, value in known.items() if name in names and value is not None and not getattr(metric, name)}
    fitted: Metric = dataclasses.replace(metric, **changed) if changed else metric
    return fitted


def _is_defined(metric: Metric, task: TaskRecord, rows: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether one of the usual metrics means anything for such rows."""
    if metric.name == "balanced_accuracy":
        return not task.multi_label
    if metric.name in ("auc", "threshold_accuracy"):
        found = {str(row.get(task.label_column or "label")).lower() for row in rows}
        return found <= {"0", "1", "0.0", "1.0", "true", "false"} and (metric.name != "auc" or len(found) > 1)
    return True
