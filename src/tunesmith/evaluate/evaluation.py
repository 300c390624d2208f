"""A model against a test set: rows stream by, predictions are kept on disk, numbers are left."""

from __future__ import annotations

import itertools
import json
import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.errors import DataError, UserError
from tunesmith.evaluate.answering import Asking, Choosing, Prediction, asking
from tunesmith.evaluate.choice_of_metrics import choose_metrics, fit_to_task
from tunesmith.evaluate.predictions import Spool, written_whole
from tunesmith.evaluate.references import says_none
from tunesmith.evaluate.speed import latency_ms, model_size
from tunesmith.evaluate.untuned import suited
from tunesmith.metrics.protocol import Metric, Needs
from tunesmith.metrics.user import FunctionMetric

if TYPE_CHECKING:
    from tunesmith.runtime.protocol import Runtime

log = logging.getLogger(__name__)

#: Rows asked together; the runtime makes batches of like length of them.
ROWS_AT_ONCE = 512
#: Rows answered one by one for the latency.
_LATENCY_ROWS = 10
#: Rows that decide how rows become prompts, where the model doesn't say.
_LOOKED_AT = 50


@dataclass(frozen=True)
class Evaluation:
    """What a test set says about a model.

    Attributes:
        task: what the model was asked to do.
        metrics: figures by name; ``f1[label]`` is one of a label, a field or a kind of span.
        num_rows: rows measured.
        rows: metric -> one number a row, greater is better, where the metric means something for a row.
        predictions_file: JSON lines of what was asked and answered, where they were asked for.
        speed: tokens and rows a second, the size of the model, and where asked for the latency of single rows.
        words: what else should be known, in sentences.
    """

    task: str
    metrics: dict[str, float]
    num_rows: int
    rows: dict[str, list[float]] = field(default_factory=dict)
    predictions_file: Path | None = None
    speed: dict[str, float] = field(default_factory=dict)
    words: tuple[str, ...] = ()


@dataclass
class _Tape:
    """What is kept of the rows that have passed by.

    Attributes:
        lines: what is written to the file of predictions.
        forms: for each need of a metric, predictions and references.
    """

    lines: Spool
    forms: dict[Needs, tuple[Spool, Spool]]
    num_tokens: int = 0
    num_cut: int = 0
    seconds: float = 0.0

    @classmethod
    def empty(cls, needs: Iterable[Needs]) -> _Tape:
        return cls(Spool(), {need: (Spool(_READERS.get(need)), Spool()) for need in needs})

    def keep(self, predictions: Sequence[Prediction], first: int) -> None:
        """Add the predictions of some rows, ``first`` the number of the first of them."""
        for number, found in enumerate(predictions, first):
            self.num_tokens += found.num_tokens
            self.num_cut += not found.stopped
            line = {"row": number, "input": found.shown, "references": found.references, "output": found.text}
            self.lines.append({**line, "score": None, "stopped": found.stopped, "num_tokens": found.num_tokens, **found.more})
            for need, (predicted, right) in self.forms.items():
                predicted.append(found.forms[need][0])
                right.append(found.forms[need][1])


@dataclass(frozen=True)
class _Scored:
    """How likely an answer is, read back from disk."""

    log_prob: float
    num_tokens: int


_READERS: dict[Needs, Any] = {"likelihood": lambda pair: _Scored(*pair)}


def evaluate(
    runtime: Runtime,
    rows: Iterable[Mapping[str, Any]],
    *,
    metrics: Sequence[str | Metric] | None = None,
    limit: int | None = None,
    max_new_tokens: int = 256,
    batch_size: int | None = None,
    labels: Sequence[str] = (),
    reference_column: str | None = None,
    text_template: str | None = None,
    constrain: bool = True,
    predictions_file: Path | None = None,
) -> Evaluation:
    """Ask a model every row of a test set, and measure its answers.

    Args:
        runtime: a loaded model with the template and task that belong to it.
        rows: the test set, of any length, with the columns of training.
        metrics: names, ``file.py:function``, or metrics; by default those usual for the task. ``latency``, ``throughput`` and ``size``
            are measured too when they are named (the last two always).
        limit: measure the first so many rows only.
        max_new_tokens: where an answer that doesn't end by itself is cut.
        batch_size: rows at once; by default as many as a budget of tokens allows.
        labels: labels to choose among, for a model that writes text and knows none.
        reference_column: where the right answer (or a list of them) is; by default the column of training.
        text_template: how a row becomes a prompt, for a model that was not tuned here; by default as finetune would do it.
        constrain: hold answers to the schema, or the labels, that the model was trained on.
        predictions_file: where to write what was asked and answered, as JSON lines.

    Raises:
        UserError: for metrics that are unknown or don't fit the task, and rows that can't be read or measured by.
    """
    rows = iter(rows)
    head = list(itertools.islice(rows, _LOOKED_AT))
    runtime = suited(runtime, head, text_template=text_template)
    if not constrain:
        runtime = runtime.with_schema(None)
    rows = itertools.chain(head, rows)
    ways = asking(runtime, max_new_tokens=max_new_tokens, batch_size=batch_size, labels=labels, reference_column=reference_column)
    first, measurable, skipped = _measurable(itertools.islice(rows, limit), ways, runtime, reference_column)
    chosen, measurements = choose_metrics(metrics, runtime.task, ways.offers, first)
    fitted = [fit_to_task(metric, runtime.task) for metric in chosen]
    needs = frozenset(metric.needs for metric in fitted)
    tape = _ask_all(ways, measurable, needs, [metric for metric in fitted if isinstance(metric, FunctionMetric)])
    figures, per_row = _measure(fitted, tape)
    speed = _speed(runtime, ways, tape, first, measurements, needs)
    _write(predictions_file, tape, fitted, per_row)
    words = (*_words(tape, fitted, skipped, max_new_tokens), *_unknown_labels(ways, tape))
    return Evaluation(runtime.task.name, figures, len(tape.lines), per_row, predictions_file, speed, words)


@dataclass
class _Skipped:
    """How many rows had no right answer, known when all have passed by."""

    count: int = 0


def _measurable(
    rows: Iterable[Mapping[str, Any]], ways: Asking, runtime: Runtime, reference_column: str | None
) -> tuple[list[Mapping[str, Any]], Iterator[Mapping[str, Any]], _Skipped]:
    """Return a few rows, all rows that have a right answer, and how many have none.

    Raises:
        DataError: when there is no row, or none of the first ones has a right answer.
    """
    stream = iter(rows)
    first = list(itertools.islice(stream, ROWS_AT_ONCE))
    if not first:
        raise DataError("the test set has no row to measure by")
    column = reference_column or runtime.task.label_column or runtime.template.answer_column or "the answer"

    def is_answered(row: Mapping[str, Any]) -> bool:
        return bool(ways.references(row)) or says_none(runtime.task, row.get(column))

    if not any(map(is_answered, first)):
        found = ", ".join(first[0])
        fix = "Name the column of the right answer: --reference_column COLUMN"
        raise DataError(f"no row has a right answer: column '{column}' is missing or empty; there is: {found}", fix=fix)
    skipped = _Skipped()

    def with_answer() -> Iterator[Mapping[str, Any]]:
        for row in itertools.chain(first, stream):
            if is_answered(row):
                yield row
            else:
                skipped.count += 1

    return list(filter(is_answered, first)), with_answer(), skipped


def _ask_all(ways: Asking, rows: Iterator[Mapping[str, Any]], needs: frozenset[Needs], doubtful: Sequence[Metric]) -> _Tape:
    """Ask for all rows; metrics that may be broken are tried on the first ones, not after hours."""
    tape = _Tape.empty(needs)
    while chunk := list(itertools.islice(rows, ROWS_AT_ONCE)):
        number, start = len(tape.lines) + 1, time.perf_counter()
        try:
            predictions = ways.predict(chunk, needs)
        except UserError as error:
            error.args = (f"rows {number} to {number + len(chunk) - 1}: {error.message}",)
            error.message = error.args[0]
            raise
        tape.seconds += time.perf_counter() - start
        tape.keep(predictions, number)
        if number == 1:
            _measure(doubtful, tape)
        log.info("%s rows measured.", f"{len(tape.lines):,}")
    return tape


def _measure(metrics: Sequence[Metric], tape: _Tape) -> tuple[dict[str, float], dict[str, list[float]]]:
    figures: dict[str, float] = {}
    per_row: dict[str, list[float]] = {}
    for metric in metrics:
        predicted, right = tape.forms[metric.needs]
        figures |= metric.compute(predicted, right)
        scores = metric.per_row(predicted, right)
        if scores is not None:
            per_row[metric.name] = scores
    return figures, per_row


def _speed(
    runtime: Runtime,
    ways: Asking,
    tape: _Tape,
    first: Sequence[Mapping[str, Any]],
    measurements: frozenset[str],
    needs: frozenset[Needs],
) -> dict[str, float]:
    speed = {"seconds": tape.seconds, "rows_per_second": len(tape.lines) / max(tape.seconds, 1e-9)}
    if tape.num_tokens:
        speed["tokens_per_second"] = tape.num_tokens / max(tape.seconds, 1e-9)
    if "latency" in measurements:
        speed |= latency_ms(lambda row: ways.predict([row], needs), first[:_LATENCY_ROWS])
    return speed | model_size(runtime)


def _write(file: Path | None, tape: _Tape, metrics: Sequence[Metric], per_row: Mapping[str, Sequence[float]]) -> None:
    """Write the predictions, each with its score by the first metric that has one for single rows."""
    if file is None:
        return
    scores = next((per_row[metric.name] for metric in metrics if metric.name in per_row), None)
    with written_whole(file) as lines:
        for number, line in enumerate(tape.lines):
            lines.write(json.dumps({**line, "score": None if scores is None else scores[number]}, ensure_ascii=False) + "\n")


def _unknown_labels(ways: Asking, tape: _Tape) -> Iterator[str]:
    if isinstance(ways, Choosing):
        unknown = sum(not ways.is_known(line["references"]) for line in tape.lines)
        if unknown:
            yield f"{unknown:,} rows have a right label that the model can't choose: it knows {len(ways.labels)} others."


def _words(tape: _Tape, metrics: Sequence[Metric], skipped: _Skipped, max_new_tokens: int) -> Iterator[str]:
    if skipped.count:
        yield f"{skipped.count:,} rows have no right answer and were left out."
    if tape.num_cut:
        yield f"{tape.num_cut:,} of {len(tape.lines):,} answers were cut at --max_new_tokens {max_new_tokens} or at the end of the context."
    for metric in metrics:
        signature = getattr(metric, "signature", None)
        if callable(signature):
            yield f"{metric.name}: {signature(tape.forms[metric.needs][1])}"
    several = sum(len(right) > 1 for right in tape.forms["text"][1]) if "text" in tape.forms else 0
    if several:
        yield f"{several:,} rows have several right answers; each answer is compared with all of them."
