"""Judging a finished run: its model and the base it started from answer the same held-out rows, next to what costs nothing."""

from __future__ import annotations

import gc
import json
import logging
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.artifact import Manifest, read_manifest
from tunesmith.data.labels import labels_of_cell
from tunesmith.data.placeholders import as_text
from tunesmith.data.task_file import TaskRecord, read_task
from tunesmith.data.templates import Template
from tunesmith.errors import DataError, ModelError, TunesmithError
from tunesmith.evaluate.baselines import MAJORITY, Examples, baseline_answers
from tunesmith.evaluate.evaluation import Evaluation, evaluate
from tunesmith.evaluate.verdict import Verdict, decide, with_forgetting, write_verdict
from tunesmith.metrics import load_metric

if TYPE_CHECKING:
    from tunesmith.runtime.protocol import Runtime
    from tunesmith.runtime.torch_runtime import TorchRuntime

log = logging.getLogger(__name__)

HELD_OUT_FILE = "held_out.jsonl"
PREDICTIONS, BASE_PREDICTIONS = "predictions.jsonl", "predictions_base.jsonl"
VERDICT_ROWS = 200
#: Answers of up to so many words are right or wrong; longer ones are compared by their words.
SHORT_ANSWER_WORDS = 3
#: The longest answer that is waited for, however long the references are.
MOST_NEW_TOKENS = 512

#: The one metric of a task that decides; it has to mean something for a single row.
_MAIN_METRICS = {
    "text-classification": "accuracy",
    "token-classification": "span_f1",
    "summarization": "rouge",
    "extraction": "extraction",
    "similarity": "threshold_accuracy",
}


@dataclass(frozen=True)
class FinishedRun:
    """What the folder of a finished fine-tuning says.

    Attributes:
        folder: the run's folder; ``manifest``: what it is.
        template: how prompts become text; None for a model with a head, which reads columns as they are.
        task: what the model does.
        rows: held-out rows to judge by.
    """

    folder: Path
    manifest: Manifest
    template: Template | None
    task: TaskRecord
    rows: tuple[Mapping[str, Any], ...]

    def option(self, name: str, default: Any = None) -> Any:
        """Return the value of an option that the run was given or chose."""
        value = self.manifest.options.get(name, {}).get("value")
        return default if value is None else value


def judge_run(folder: Path, *, max_rows: int | None = VERDICT_ROWS) -> Verdict:
    """Judge a finished run, and keep the verdict and both models' answers in its folder.

    Args:
        folder: of the run.
        max_rows: most held-out rows that are answered, spread evenly over them; None for all.

    Raises:
        UserError: when the folder holds no finished run or no held-out rows. The run is not touched then.
    """
    run = read_run(folder, max_rows=max_rows)
    metric = main_metric(run.task, run.template, run.rows)
    probed: list[Mapping[str, float]] = []
    base, probe = None, None
    if not run.task.head:
        runtime = load_base(run)
        base = _evaluate(runtime, run, metric, folder / BASE_PREDICTIONS)
        probe = _probe(runtime, probed)
        del runtime
        gc.collect()  # two models need not be in memory at once
    tuned_runtime = load_tuned(run)
    tuned = _evaluate(tuned_runtime, run, metric, folder / PREDICTIONS)
    _probe(tuned_runtime, probed, probe)
    verdict = decide(score_name(metric), None if base is None else base.rows[metric], tuned.rows[metric], baseline_scores(run, metric))
    if len(probed) == 2:
        from tunesmith.evaluate import forgetting

        verdict = with_forgetting(verdict, forgetting.compare(*probed))
    verdict = replace(verdict, others=_others(base, tuned), advice=advice(verdict, run))
    write_verdict(folder, verdict)
    return verdict


def read_run(folder: Path, *, max_rows: int | None) -> FinishedRun:
    """Return what a run's folder says, with at most ``max_rows`` of its held-out rows.

    Raises:
        ModelError: when it is no finished run.
        DataError: when no rows were held out.
    """
    manifest = read_manifest(folder)
    if manifest is None or manifest.kind != "finetune":
        raise ModelError(f"{folder} is not the folder of a finished fine-tuning")
    rows = read_rows(folder)
    if not rows:
        raise DataError(
            "no rows were held out of training, so nothing can be said about what it learnt",
            fix="Name some with --eval_split, or let --validation_fraction hold some out",
        )
    weights = folder / "adapter" if (folder / "adapter").is_dir() else folder / "model"
    template = Template.from_dict(manifest.template) if manifest.template else None
    task = read_task(weights) or TaskRecord(manifest.task or "text-generation")
    return FinishedRun(folder, manifest, template, task, tuple(spread(rows, max_rows)))


def read_rows(folder: Path) -> list[Mapping[str, Any]]:
    """Return the rows that a run did not train on; none where there is no file of them."""
    file = folder / HELD_OUT_FILE
    if not file.is_file():
        return []
    try:
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except ValueError as error:
        raise DataError(f"a line is no JSON: {error}", file=str(file)) from error


def spread(rows: Sequence[Any], most: int | None) -> list[Any]:
    """Return at most so many rows, spread evenly over all."""
    if most is None or len(rows) <= most:
        return list(rows)
    return [rows[index * len(rows) // most] for index in range(most)]


def main_metric(task: TaskRecord, template: Template | None, rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the metric that decides: that of the task; for other text by how long the answers are."""
    if task.name in _MAIN_METRICS:
        return _MAIN_METRICS[task.name]
    if template is None or (template.kind == "text" and not template.prompt_columns):
        return "perplexity"  # rows of plain text have no prompt to answer
    lengths = sorted(len(text.split()) for row in rows for text in template.answers(row)[:1])
    return "exact_match" if lengths and lengths[len(lengths) // 2] <= SHORT_ANSWER_WORDS else "rouge"


def score_name(metric: str) -> str:
    """Return what the score of a single row is called."""
    return "log_likelihood" if metric == "perplexity" else load_metric(metric).headline


# The two models


def load_tuned(run: FinishedRun) -> Runtime:
    """Load the model that the run made."""
    from tunesmith.runtime.load import load

    return load(run.folder, **_loading(run))


def load_base(run: FinishedRun) -> TorchRuntime:
    """Load the model that the run started from, asked in the same way: same template, same task, same number format."""
    from tunesmith.runtime.load import load
    from tunesmith.runtime.torch_runtime import TorchRuntime

    place = run.folder / "model" if (run.folder / "adapter").is_dir() else run.manifest.base
    loaded: Any = load(place, **_loading(run))
    return TorchRuntime(loaded.model, loaded.tokenizer, run.template or loaded.template, run.task)


def _loading(run: FinishedRun) -> dict[str, Any]:
    return {
        "dtype": run.option("torch_dtype", "auto"),
        "device": run.option("device", "auto"),
        "trust_remote_code": bool(run.option("trust_remote_code", False)),
    }


def _evaluate(runtime: Runtime, run: FinishedRun, metric: str, file: Path) -> Evaluation:
    # how likely the right answer is found says more than an exact match does, where answers are free text
    wanted = [metric] if metric != "exact_match" and metric != "rouge" else [metric, "perplexity"]
    return evaluate(runtime, run.rows, metrics=wanted, max_new_tokens=answer_room(runtime, run.template, run.rows), predictions_file=file)


def answer_room(runtime: Runtime, template: Template | None, rows: Sequence[Mapping[str, Any]]) -> int:
    """Return how many tokens an answer may have: half as many again as the longest reference, since a base model can ramble on and on."""
    if template is None:
        return 1
    texts = [text for row in rows for text in template.answers(row)]
    longest = max((len(runtime.tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts), default=0)
    return min(longest * 3 // 2 + 8, MOST_NEW_TOKENS)


def _probe(runtime: Any, probed: list[Mapping[str, float]], probe: Any = None) -> Any:
    """Add the perplexities of the forgetting probe, made by the base and shown to both; what it can't do is said and left out."""
    from tunesmith.evaluate import forgetting

    if not hasattr(runtime, "model") or (probe is None and probed):
        return None
    try:
        probe = probe or forgetting.make_probe(runtime)
        probed.append(forgetting.perplexities(runtime, probe))
    except TunesmithError as error:
        log.warning("Whether it forgot anything was not looked at: %s", error)
        return None
    return probe


def _others(base: Evaluation | None, tuned: Evaluation) -> dict[str, tuple[float, float]]:
    """Return further figures of both models by name."""
    if base is None:
        return {}
    return {name: (base.metrics[name], value) for name, value in tuned.metrics.items() if name in base.metrics and "[" not in name}


# What costs nothing


def baseline_scores(run: FinishedRun, metric: str) -> dict[str, list[float]]:
    """Return the scores of the task's baselines on the held-out rows; none where the training rows can't be read any more."""
    measure = load_metric(metric)
    if measure.needs == "spans":
        return {MAJORITY: [float(row["references"] == ["[]"]) for row in read_predictions(run.folder / PREDICTIONS)]}
    if measure.needs not in ("text", "choices") or run.task.multi_label:
        return {}
    try:
        train = training_examples(run)
    except (TunesmithError, OSError) as error:
        log.warning("Nothing to compare with beside the base model: the training rows can't be read again (%s)", error)
        return {}
    held_out = examples(run, run.rows)
    references = [references_of(run, row) for row in run.rows]
    found = {}
    for name, answers in baseline_answers(run.task.name, train, held_out.prompts).items():
        scores = measure.per_row(answers, references)
        if scores is not None:
            found[name] = list(scores)
    return found


def read_predictions(file: Path) -> list[dict[str, Any]]:
    """Return the lines of a file of predictions."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def training_examples(run: FinishedRun) -> Examples:
    """Return prompts and answers of the rows that the run was trained on, read again as its options say, without the held-out ones."""
    from tunesmith.data.sources import load_splits

    names = ("data_name", "data_files", "train_subset", "train_split", "eval_subset", "eval_split", "max_samples", "map_columns")
    splits = load_splits(**{name: value for name in names if (value := run.option(name)) is not None})
    found = examples(run, splits.train)
    if splits.validation is not None or splits.test is not None:
        return found
    held_out = {prompt_text(run, row) for row in read_rows(run.folder)}
    kept = [(prompt, answer) for prompt, answer in zip(found.prompts, found.answers, strict=True) if prompt not in held_out]
    return Examples(tuple(prompt for prompt, _ in kept), tuple(answer for _, answer in kept))


def examples(run: FinishedRun, rows: Any) -> Examples:
    """Return prompts and answers of rows as plain text, as a baseline reads them; rows without an answer are left out of training."""
    pairs = [(prompt_text(run, row), references_of(run, row)) for row in rows]
    return Examples(tuple(prompt for prompt, _ in pairs), tuple(answers[0] if answers else "" for _, answers in pairs))


def prompt_text(run: FinishedRun, row: Mapping[str, Any]) -> str:
    """Return what a row asks, without the template around it."""
    columns = run.task.text_columns or (run.template.prompt_columns if run.template else ())
    if columns:
        return "\n".join(as_text(row.get(column)) for column in columns)
    return json.dumps([value for name, value in row.items() if name != run.task.label_column], ensure_ascii=False, default=str)


def references_of(run: FinishedRun, row: Mapping[str, Any]) -> list[str]:
    """Return the answers that are right for a row."""
    if run.template is not None and run.task.name != "text-classification":
        return [text.strip() for text in run.template.answers(row)]
    return labels_of_cell(row.get(run.task.label_column or ""))


def advice(verdict: Verdict, run: FinishedRun) -> str:
    """Return the one command that a user should type next."""
    folder = shlex.quote(str(run.folder))
    if verdict.outcome != "gain":
        return f"tunesmith diagnose {folder}"
    return f'tunesmith generate -m {folder} "…"' if run.task.head else f"tunesmith chat {folder}"
