"""``tunesmith evaluate``: a model against a test set or benchmarks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tunesmith.cli.command import Command, Given
from tunesmith.cli.output import print_json
from tunesmith.config.evaluate import EvaluateOptions
from tunesmith.config.resolve import FLAG, resolve
from tunesmith.errors import UsageError

if TYPE_CHECKING:
    from tunesmith.evaluate.evaluation import Evaluation

#: Figures of single labels and fields that are printed, the worst ones; all are in the JSON.
MOST_DETAILS = 10
_BOTH = ("limit", "batch_size", "output_path", "overwrite")
_ONLY_TEST_SETS = ("reference_column", "map_columns", "text_template", "metrics", "labels", "max_new_tokens", "constrain")
_ONLY_BENCHMARKS = ("include_path", "num_fewshot")


def run(given: Given, as_json: bool) -> int:
    """Measure, and print the figures."""
    from tunesmith import api

    options = resolve(EvaluateOptions, [(FLAG, given)]).options
    loading = {name: getattr(options, name) for name in ("adapter_path", "device", "trust_remote_code", "revision", "token", "threads")}
    loading["dtype"] = options.torch_dtype
    if options.benchmarks is not None:
        _refuse(given, ("data_files", *_ONLY_TEST_SETS), "--benchmarks, which brings its own test set")
        chosen = {name: getattr(options, name) for name in (*_ONLY_BENCHMARKS, *_BOTH)}
        found = api.evaluate_benchmarks(options.model_name_or_path, list(options.benchmarks), **chosen, **loading)
        _print(found, as_json)
        return 0
    _refuse(given, _ONLY_BENCHMARKS, "a test set; it belongs to --benchmarks")
    chosen = {name: getattr(options, name) for name in (*_ONLY_TEST_SETS, *_BOTH)}
    files = list(options.data_files) if options.data_files is not None else None
    _print(api.evaluate(options.model_name_or_path, files, **chosen, **loading), as_json)
    return 0


def _refuse(given: Given, names: tuple[str, ...], what: str) -> None:
    idle = [f"--{name}" for name in names if name in given]
    if idle:
        raise UsageError(f"{', '.join(idle)} has no effect with {what}", fix="Leave it out")


def _print(found: Evaluation, as_json: bool) -> None:
    if as_json:
        print_json({**{name: getattr(found, name) for name in ("task", "num_rows", "metrics", "speed", "predictions_file", "words")}})
        return
    print(f"{found.task}, {found.num_rows:,} rows")
    overall = {name: value for name, value in found.metrics.items() if not name.endswith("]")}
    _print_table(overall)
    details = {name: value for name, value in found.metrics.items() if name.endswith("]")}
    if details:
        worst = dict(sorted(details.items(), key=lambda entry: entry[1])[:MOST_DETAILS])
        more = f" of {len(details)} (all: --json)" if len(details) > len(worst) else ""
        print(f"The lowest {len(worst)}{more}:")
        _print_table(worst)
    _print_table({name: value for name, value in found.speed.items() if name != "seconds"})
    for sentence in found.words:
        print(sentence)
    if found.predictions_file is not None:
        print(f"Predictions: {found.predictions_file}")


def _print_table(figures: Mapping[str, Any]) -> None:
    width = max(map(len, figures), default=0)
    for name, value in figures.items():
        shown = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4f}"
        print(f"  {name:{width}}  {shown}")


COMMAND = Command(
    name="evaluate",
    description="Measure a model on a test set (accuracy, F1, BLEU, ROUGE, perplexity, a function of your own …) or on benchmarks.",
    usage=("tunesmith evaluate RUN [TEST_FILE] [options]", "tunesmith evaluate -m MODEL --benchmarks TASK,TASK [options]"),
    options=EvaluateOptions,
    run=run,
    positionals={1: ("model_name_or_path",), 2: ("model_name_or_path", "data_files")},
    examples=(
        "tunesmith evaluate out test.jsonl",
        "tunesmith evaluate -m out --data_files test.jsonl --metrics accuracy,f1,calibration -o out/evaluation",
        "tunesmith evaluate out test.jsonl --metrics costs.py:cost_per_error",
    ),
)
