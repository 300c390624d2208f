"""Judging a finished run: its model and the base it started from answer the same held-out rows, next to what costs nothing."""

from __future__ import annotations

import gc
import json
import logging
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.data.task_file import TaskRecord
from tunesmith.data.templates import Template
from tunesmith.errors import TunesmithError
from tunesmith.evaluate.baselines import MAJORITY, baseline_answers, majority
from tunesmith.evaluate.evaluation import Evaluation, evaluate
from tunesmith.evaluate.finished_run import FinishedRun, examples, read_run, read_splits, references_of, spread, training_examples
from tunesmith.evaluate.verdict import Verdict, decide, with_forgetting, write_verdict
from tunesmith.metrics import load_metric
from tunesmith.run_folder import BASE_PREDICTIONS, PREDICTIONS

if TYPE_CHECKING:
    from tunesmith.data.sources import Splits
    from tunesmith.runtime.protocol import Runtime

log = logging.getLogger(__name__)

VERDICT_ROWS = 200
#: Answers of up to so many words are right or wrong; longer ones are compared by their words.
SHORT_ANSWER_WORDS = 3
#: The longest answer that is waited for, however long the references are.
MOST_NEW_TOKENS = 512
#: What each model may write in all, if none of its answers ended by itself: a minute or two of a 135M model on two cores. With fewer
#: rows than `FEWEST_ROWS` little could be shown.
MOST_GENERATED_TOKENS = 12_000
FEWEST_ROWS = 30
CHARACTERS_PER_TOKEN = 4

#: The one metric of a task that decides; it has to mean something for a single row.
_MAIN_METRICS = {
    "text-classification": "accuracy",
    "token-classification": "span_f1",
    "summarization": "rouge",
    "extraction": "extraction",
    "similarity": "threshold_accuracy",
}


_CHOSEN_BY_THEM = (
    "These rows also decided which step's weights were kept, which flatters a little; rows of a test split, or another file with "
    "tunesmith compare, would not."
)


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
    run = affordable(run)
    probed: list[Mapping[str, float]] = []
    base, probe = None, None
    runtime = load_base(run)
    if runtime is not None:
        base = _evaluate(runtime, run, _metrics(metric), folder / BASE_PREDICTIONS)
        probe = _probe(runtime, probed)
        del runtime
        gc.collect()  # two models need not be in memory at once
    tuned_runtime = load_tuned(run)
    # whether the tuned model is as often right as it is sure; for the base that would cost more than all the rest
    more = ["calibration"] if run.task.name == "text-classification" and not run.task.multi_label else []
    tuned = _evaluate(tuned_runtime, run, [*_metrics(metric), *more], folder / PREDICTIONS)
    _probe(tuned_runtime, probed, probe)
    splits = _splits(run)
    baselines = baseline_scores(run, metric, splits)
    verdict = decide(score_name(metric), None if base is None else base.rows[metric], tuned.rows[metric], baselines)
    if splits is not None and splits.test is None and _validated(run):
        verdict = replace(verdict, words=(*verdict.words, _CHOSEN_BY_THEM))
    if len(probed) == 2:
        from tunesmith.evaluate import forgetting

        verdict = with_forgetting(verdict, forgetting.compare(*probed))
    verdict = replace(verdict, others=_others(base, tuned), advice=advice(verdict, run))
    write_verdict(folder, verdict)
    return verdict


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


def load_base(run: FinishedRun) -> Runtime | None:
    """Load the model that the run started from, asked in the same way: same template, same task, same number format.

    Returns: None where the base can't do the task: it has no head that scores labels or tags. Embeddings it has.
    """
    from tunesmith.runtime.load import load, model_head

    place = run.folder / "model" if (run.folder / "adapter").is_dir() else run.manifest.base
    if run.task.head and run.task.name != "similarity":
        return None
    if not run.task.head:
        base = load(place, **_loading(run))
        return base.with_template(run.template, run.task) if run.template is not None else base
    from tunesmith.models.load import load_model, load_tokenizer
    from tunesmith.models.sources import resolve_model
    from tunesmith.runtime.embedder import EmbedderRuntime

    source, trusted = resolve_model(place), bool(run.option("trust_remote_code", False))
    tokenizer = load_tokenizer(source, trust_remote_code=trusted)
    model = load_model(source, **_loading(run), task=model_head(run.task, tokenizer))
    # without a threshold of its own the one that fits these rows best is taken, which is to the base's advantage
    return EmbedderRuntime(model, tokenizer, replace(run.task, threshold=None))


def _loading(run: FinishedRun) -> dict[str, Any]:
    return {
        "dtype": run.option("torch_dtype", "auto"),
        "device": run.option("device", "auto"),
        "trust_remote_code": bool(run.option("trust_remote_code", False)),
    }


def _metrics(metric: str) -> list[str]:
    """Return what is measured beside the metric that decides: where answers are free text, how likely the right one is says more."""
    return [metric, "perplexity"] if metric in ("exact_match", "rouge") else [metric]


def affordable(run: FinishedRun) -> FinishedRun:
    """Return the run with so few rows that its judge doesn't take longer than its training: long answers take long to write."""
    if run.template is None or (run.task.name == "text-classification" and run.task.labels):
        return run
    longest = max((len(text) for row in run.rows for text in run.template.answers(row)), default=0)
    room = min(longest // CHARACTERS_PER_TOKEN * 3 // 2 + 8, MOST_NEW_TOKENS)
    most = max(FEWEST_ROWS, MOST_GENERATED_TOKENS // room)
    if len(run.rows) > most:
        log.info("Answers are long here: both models answer %d of %d held-out rows; tunesmith compare asks all.", most, len(run.rows))
    return replace(run, rows=tuple(spread(run.rows, most)))


def _evaluate(runtime: Runtime, run: FinishedRun, wanted: list[str], file: Path) -> Evaluation:
    return evaluate(runtime, run.rows, metrics=wanted, max_new_tokens=answer_room(runtime, run.template, run.rows), predictions_file=file)


def answer_room(runtime: Runtime, template: Template | None, rows: Sequence[Mapping[str, Any]]) -> int:
    """Return how many tokens an answer may have: half as many again as the longest reference, since a base model can ramble on and on."""
    if template is None:
        return 1
    texts = [text for row in rows for text in template.answers(row)]
    longest = max((len(runtime.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]) for text in texts), default=0)
    return min(longest * 3 // 2 + 8, MOST_NEW_TOKENS)


def _probe(runtime: Any, probed: list[Mapping[str, float]], probe: Any = None) -> Any:
    """Add the perplexities of the forgetting probe, made by the base and shown to both; what it can't do is said and left out."""
    from tunesmith.evaluate import forgetting

    if runtime.task.head or not hasattr(runtime, "model") or runtime.model.config.is_encoder_decoder or (probe is None and probed):
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
    shown = {name: value for name, value in tuned.metrics.items() if "[" not in name and name != "threshold"}
    return {name: (base.metrics[name], value) for name, value in shown.items() if name in base.metrics}


# What costs nothing


def _splits(run: FinishedRun) -> Splits | None:
    try:
        return read_splits(run)
    except (TunesmithError, OSError) as error:
        log.warning("Nothing to compare with beside the base model: the training rows can't be read again (%s)", error)
        return None


def _validated(run: FinishedRun) -> bool:
    return isinstance(run.manifest.metrics.get("eval_loss"), (int, float))


def baseline_scores(run: FinishedRun, metric: str, splits: Splits | None) -> dict[str, list[float]]:
    """Return the scores of the task's baselines on the held-out rows.

    Args:
        run, metric: what is judged, and by what.
        splits: the run's data; None where it can't be read any more, and nothing can be learnt from it.
    """
    measure = load_metric(metric)
    if measure.needs == "spans":
        return {MAJORITY: [float(row["references"] == ["[]"]) for row in read_predictions(run.folder / PREDICTIONS)]}
    if measure.needs not in ("text", "choices", "scores") or splits is None:
        return {}
    if run.task.multi_label:
        return {MAJORITY: measure.per_row([most_frequent_labels(run, splits)] * len(run.rows), _references(run)) or []}
    train = training_examples(run, splits)
    held_out = examples(run, run.rows)
    references = _references(run)
    if measure.needs == "scores":  # pairs are alike or not: what training said most often is said of all
        most = majority(train.answers, len(references)) if len(train) else []
        return {MAJORITY: [float(most[0] in right) for right in references]} if most else {}
    found = {}
    for name, answers in baseline_answers(run.task.name, train, held_out.prompts).items():
        scores = measure.per_row(answers, references)
        if scores is not None:
            found[name] = list(scores)
    return found


def most_frequent_labels(run: FinishedRun, splits: Splits) -> tuple[str, ...]:
    """Return the set of labels that most rows have, where several can be right at once."""
    return Counter(tuple(sorted(references_of(run, row))) for row in splits.train).most_common(1)[0][0]


def _references(run: FinishedRun) -> list[list[str]]:
    return [references_of(run, row) for row in run.rows]


def read_predictions(file: Path) -> list[dict[str, Any]]:
    """Return the lines of a file of predictions."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def advice(verdict: Verdict, run: FinishedRun) -> str:
    """Return the one command that a user should type next."""
    folder = shlex.quote(str(run.folder))
    if verdict.outcome != "gain":
        return f"tunesmith diagnose {folder}"
    return f'tunesmith generate -m {folder} "…"' if run.task.head else f"tunesmith chat {folder}"
