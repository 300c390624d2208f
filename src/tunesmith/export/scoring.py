"""One stage of an export against the evaluation set: what it computes, what it answers, and whether it stops.

The reference is measured first and leaves a `Trace`; every other stage is measured beside that trace, one model in memory at a time.
"""

from __future__ import annotations

import json
import logging
import math
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tunesmith.data.task_file import TaskRecord
from tunesmith.errors import UsageError, UserError
from tunesmith.evaluate.evaluation import evaluate
from tunesmith.evaluate.judge import score_name
from tunesmith.export.evaluation_set import PLAIN, EvaluationSet
from tunesmith.export.heads import HeadOutputs, head_outputs
from tunesmith.export.logits import Distance, LogitSpool, ScoredRow, answer_log_prob, plan_rows
from tunesmith.export.stages import Stage, StageScores, size_mb
from tunesmith.runtime.scoring import encode_pairs

if TYPE_CHECKING:
    from tunesmith.runtime.protocol import Runtime

log = logging.getLogger(__name__)


@dataclass
class Trace:
    """What a stage did, row by row, as far as other stages are compared with it.

    Attributes:
        rows: where token logits are compared; none for heads and encoder-decoders.
        logits: the reference's own logits at these places; None for other stages.
        log_probs: log-probability a token of each right answer.
        tokens: how many tokens each of them has.
        answers: greedy answers.
        stopped: which of them ended by themselves.
        scores: the deciding metric of each row, greater is better; None where it has no meaning for a single row.
        metrics: the task's metrics.
        head: what a head computed.
    """

    rows: list[ScoredRow] = field(default_factory=list)
    logits: LogitSpool | None = None
    log_probs: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    stopped: list[bool] = field(default_factory=list)
    scores: list[float] | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    head: HeadOutputs | None = None

    @property
    def perplexity(self) -> float | None:
        """Of the right answers."""
        count = sum(self.tokens)
        if not count:
            return None
        total = math.fsum(value * number for value, number in zip(self.log_probs, self.tokens, strict=True))
        return math.exp(min(-total / count, 700.0))

    def copy_answers(self, other: Trace) -> None:
        """Take over what another model with the same logits answered."""
        self.answers, self.stopped, self.scores, self.metrics = other.answers, other.stopped, other.scores, other.metrics

    def close(self) -> None:
        """Give the disk back that the logits take."""
        if self.logits is not None:
            self.logits.close()


def measure(
    stage: Stage, runtime: Runtime, asked: EvaluationSet, reference: Trace | None, *, same_within: float = 0.0
) -> tuple[StageScores, Trace]:
    """Score one stage.

    Args:
        stage, runtime: what is scored.
        asked: the evaluation set.
        reference: the trace of the tuned model; None for that model itself, whose logits are then kept.
        same_within: a merged model whose logits differ by no more is the tuned model: its answers are that one's, and not asked for again.

    Raises:
        UserError: when the model can't be asked; the stage is named.
    """
    log.info("Scoring %s …", stage.name)
    try:
        trace, found = Trace(), _Found()
        if runtime.task.head:
            _measure_head(runtime, asked, reference, trace, found)
        else:
            _measure_text(runtime, asked, reference, trace, found)
        if stage.kind == "exact" and reference is not None and found.largest is not None and found.largest <= same_within:
            trace.copy_answers(reference)
        elif found.largest is None or math.isfinite(found.largest):  # what computes no numbers can't answer
            trace.metrics = _ask(runtime, asked, trace)
    except UserError as error:
        error.message = f"{stage.name}: {error.message}"
        error.args = (error.message,)
        raise
    same = None
    if reference is not None and trace.answers:
        same = sum(map(str.__eq__, trace.answers, reference.answers)) / len(trace.answers)
    scores = StageScores(
        name=stage.name,
        judged=stage.kind,
        max_logit_distance=found.largest,
        mean_logit_distance=found.mean,
        kl=found.kl,
        top1_agreement=found.top1,
        top1_everywhere=found.top1_everywhere,
        perplexity=trace.perplexity,
        greedy_equal=same,
        metrics=trace.metrics,
        stopped=sum(trace.stopped) / len(trace.stopped) if trace.stopped else None,
        size_mb=size_mb(stage, runtime),
        num_positions=found.num_positions,
        compared="label" if runtime.task.head else "token",
        words=tuple(found.words),
    )
    return scores, trace


@dataclass
class _Found:
    largest: float | None = None
    mean: float | None = None
    kl: float | None = None
    top1: float | None = None
    top1_everywhere: float | None = None
    num_positions: int = 0
    words: list[str] = field(default_factory=list)


# Text


def _measure_text(runtime: Runtime, asked: EvaluationSet, reference: Trace | None, trace: Trace, found: _Found) -> None:
    apart = _reads_apart(runtime) if reference is None else not reference.rows
    if asked.pairs and apart:
        _measure_likelihoods(runtime, asked, reference, trace, found)
    elif asked.pairs:
        _measure_logits(runtime, asked, reference, trace, found)


def _measure_logits(runtime: Runtime, asked: EvaluationSet, reference: Trace | None, trace: Trace, found: _Found) -> None:
    """Of a decoder: all logits at the compared positions."""
    if reference is None:
        template = PLAIN if asked.plain else runtime.template
        scored = encode_pairs(list(asked.pairs), template, runtime.tokenizer)
        trace.rows = plan_rows([(row.ids, row.first) for row in scored], vocabulary=len(runtime.tokenizer), context=runtime.context_length)
        trace.logits = LogitSpool()
    else:
        trace.rows = reference.rows
    distance = Distance()
    for number, (row, logits) in enumerate(zip(trace.rows, _picked(runtime, trace.rows), strict=True)):
        log_prob, count = answer_log_prob(logits, row)
        trace.log_probs.append(log_prob / max(count, 1))
        trace.tokens.append(count)
        if trace.logits is not None:
            trace.logits.append(logits)
        elif reference is not None and reference.logits is not None:
            distance.add(reference.logits[number], logits, row.num_written)
    if reference is not None:
        found.largest, found.mean, found.kl = distance.largest, distance.mean, distance.kl
        found.top1, found.top1_everywhere = distance.top1_written, distance.top1_everywhere
        found.num_positions = distance.num_positions
        if not distance.finite:
            found.largest = math.inf
            found.words.append("some logits are not numbers")
        if distance.widths:
            found.words.append(f"its vocabulary is {distance.widths[1]:,} wide, the tuned model's {distance.widths[0]:,}")


def _reads_apart(runtime: Runtime) -> bool:
    """Return whether a model reads prompt and answer apart (an encoder-decoder), so that one row of tokens has no logits."""
    try:
        next(iter(runtime.token_logits([[0]])), None)
    except UsageError:
        return True
    return False


def _picked(runtime: Runtime, rows: Sequence[ScoredRow]) -> Iterator[Any]:
    """Yield for each row the logits ``(K, V)`` at its positions."""
    import numpy as np

    for row, logits in zip(rows, runtime.token_logits([list(row.ids) for row in rows]), strict=True):
        yield np.asarray(logits)[list(row.positions)]


def _measure_likelihoods(runtime: Runtime, asked: EvaluationSet, reference: Trace | None, trace: Trace, found: _Found) -> None:
    """Of an encoder-decoder: how likely it finds the right answers."""
    for one in runtime.log_likelihoods(list(asked.pairs)):
        trace.log_probs.append(one.log_prob / max(one.num_tokens, 1))
        trace.tokens.append(one.num_tokens)
    if reference is not None:
        differences = [abs(ours - theirs) for ours, theirs in zip(trace.log_probs, reference.log_probs, strict=True)]
        found.largest, found.mean = max(differences), math.fsum(differences) / len(differences)
        found.num_positions = sum(trace.tokens)
        found.words.append(
            "an encoder-decoder reads prompt and answer apart, so distances are of the log-probability a token of right answers"
        )


def _ask(runtime: Runtime, asked: EvaluationSet, trace: Trace) -> dict[str, float]:
    """Let the stage answer, and measure its answers; returns the metrics."""
    metrics: dict[str, float] = {}
    lines: list[dict[str, Any]] = []
    if asked.measured and asked.metric is not None:
        with tempfile.TemporaryDirectory(prefix="tunesmith-certificate-") as folder:
            file = Path(folder) / "predictions.jsonl"
            found = evaluate(runtime, asked.measured, metrics=[asked.metric], max_new_tokens=asked.max_new_tokens, predictions_file=file)
            lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        metrics, trace.scores = _shown(found.metrics, asked.metric), found.rows.get(asked.metric)
    if runtime.task.head:
        return metrics
    # Labels that are chosen always end. Whether the model stops where it was taught to shows when it writes freely.
    chosen = runtime.task.name == "text-classification" and bool(runtime.task.labels)
    if asked.asked and (chosen or len(lines) != len(asked.asked)):
        free = runtime.with_template(runtime.template, TaskRecord("text-generation")) if chosen else runtime
        answers = free.generate(list(asked.asked), max_new_tokens=asked.max_new_tokens)
        trace.answers, trace.stopped = [answer.text for answer in answers], [answer.stopped for answer in answers]
    else:
        trace.answers, trace.stopped = [line["output"] for line in lines], [bool(line["stopped"]) for line in lines]
    return metrics


def _shown(metrics: dict[str, float], metric: str) -> dict[str, float]:
    """Return the figures worth a column: the headline first, figures of single labels left out."""
    headline = score_name(metric)
    whole = {name: value for name, value in metrics.items() if "[" not in name and name != "threshold"}
    return {name: whole[name] for name in (headline, *whole) if name in whole}


# Heads


def _measure_head(runtime: Runtime, asked: EvaluationSet, reference: Trace | None, trace: Trace, found: _Found) -> None:
    trace.head = head_outputs(cast(Any, runtime), [cast(Any, row) for row in asked.asked])
    trace.answers = list(trace.head.answers)
    if reference is not None and reference.head is not None:
        distance = reference.head.distance_to(trace.head)
        found.largest, found.mean, found.kl = distance.largest, distance.mean, distance.kl
        found.top1 = found.top1_everywhere = distance.agreement
        found.num_positions = distance.count
