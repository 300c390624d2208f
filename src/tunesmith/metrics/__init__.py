"""Metrics: from what a model said and what was right to numbers, by the libraries that the field's papers use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from tunesmith.errors import UsageError
from tunesmith.metrics.protocol import Metric
from tunesmith.registry import Registry

METRICS = Registry(
    "metric",
    {
        "accuracy": "tunesmith.metrics.classification:Accuracy",
        "balanced_accuracy": "tunesmith.metrics.classification:BalancedAccuracy",
        "precision": "tunesmith.metrics.classification:Precision",
        "recall": "tunesmith.metrics.classification:Recall",
        "f1": "tunesmith.metrics.classification:F1",
        "calibration": "tunesmith.metrics.calibration:Calibration",
        "exact_match": "tunesmith.metrics.overlap:ExactMatch",
        "token_f1": "tunesmith.metrics.overlap:TokenF1",
        "bleu": "tunesmith.metrics.translation:Bleu",
        "chrf": "tunesmith.metrics.translation:Chrf",
        "rouge": "tunesmith.metrics.rouge:Rouge",
        "extraction": "tunesmith.metrics.extraction:Extraction",
        "span_f1": "tunesmith.metrics.spans:SpanF1",
        "spearman": "tunesmith.metrics.similarity:Spearman",
        "auc": "tunesmith.metrics.similarity:Auc",
        "threshold_accuracy": "tunesmith.metrics.similarity:ThresholdAccuracy",
        "perplexity": "tunesmith.metrics.likelihood:Perplexity",
    },
)

#: What can be measured beside metrics: how long one row takes, how many tokens a second, how large the model is.
MEASUREMENTS = ("latency", "throughput", "size")


def load_metric(name: str) -> Metric:
    """Return a metric by its name, or a function of the user's own by ``file.py:function``.

    Raises:
        UsageError: when there is none of this name (the nearest is named), or the file has no such function.
    """
    if ".py:" in name or name.endswith(".py"):
        from tunesmith.metrics.user import load_function

        return load_function(name)
    made = METRICS.load(name)
    if not callable(made):
        raise UsageError(f"the metric '{name}' stands for {made!r}, which can't be called", fix="Register a class or function")
    return cast("Metric", made())


def check_metrics(names: Sequence[str] | None) -> None:
    """Load metrics by name, to find a mistake before a model is loaded.

    Raises:
        UsageError: as :func:`load_metric`.
    """
    for name in names or ():
        if name not in MEASUREMENTS:
            load_metric(name)
