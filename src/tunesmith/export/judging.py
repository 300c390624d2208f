"""Whether a stage lost more than it may: the rules of `tunesmith.export.tolerances`, each loss a sentence that names the stage."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from tunesmith.errors import UserError
from tunesmith.evaluate.bootstrap import Difference, paired_difference
from tunesmith.evaluate.judge import score_name
from tunesmith.evaluate.verdict import metric_words, score_words
from tunesmith.export.evaluation_set import EvaluationSet
from tunesmith.export.scoring import Trace
from tunesmith.export.stages import StageScores
from tunesmith.export.tolerances import TIE, Tolerances
from tunesmith.metrics import load_metric

#: Fewer positions can't tell a tenth of a percent; said, so that a certificate is not taken for more than it is.
_FEW_POSITIONS = 1000


def losses(scores: StageScores, trace: Trace, reference: StageScores, right: Trace, asked: EvaluationSet, allowed: Tolerances) -> list[str]:
    """Return what a stage lost beyond its tolerances, a sentence each; none when it passes.

    Args:
        scores, trace: of the stage.
        reference, right: of the tuned model.
        asked: what both were asked.
        allowed: the tolerances.
    """
    if scores.judged == "shown":
        return []
    if not computes(scores):
        return [f"{scores.name}: it computes logits that are not numbers, or another number of them"]
    found = [*_of_logits(scores, allowed), *_of_quality(scores, trace, reference, right, asked, allowed)]
    return [f"{scores.name}: {text}" for text in (*found, *_of_stopping(scores, trace, reference, right, allowed))]


def computes(scores: StageScores) -> bool:
    """Return whether a stage computes numbers that can be compared."""
    return scores.max_logit_distance is None or math.isfinite(scores.max_logit_distance)


def _of_logits(scores: StageScores, allowed: Tolerances) -> Iterator[str]:
    largest = scores.max_logit_distance
    if largest is None:
        return
    reads_apart = scores.top1_agreement is None
    if scores.judged == "exact" or (scores.judged == "float" and reads_apart):
        if largest > allowed.merged_logits:
            what = "numbers" if reads_apart else "logits"
            yield (
                f"its {what} differ from the tuned model's by up to {largest:.3g}, where {allowed.merged_logits:g} is allowed: "
                "it is not the same model"
            )
    elif scores.judged == "float" and (same := scores.top1_everywhere) is not None and same < allowed.float_top1:
        yield (
            f"the likeliest {scores.compared} is the tuned model's at {_share(same)} of {scores.num_positions:,} positions, "
            f"where {_share(allowed.float_top1)} are asked for (ties within {TIE:g} count as the same)"
        )
    elif scores.judged == "grid" and (same := scores.top1_agreement) is not None and same < allowed.grid_top1:
        yield (
            f"what it writes is the tuned model's choice at {_share(same)} of the places, where {_share(allowed.grid_top1)} are asked for "
            "of a model that was trained on its grid"
        )


def _of_quality(
    scores: StageScores, trace: Trace, reference: StageScores, right: Trace, asked: EvaluationSet, allowed: Tolerances
) -> Iterator[str]:
    """The task's metric decides where single answers can be told right or wrong, perplexity where not, or where rows are too few."""
    if asked.metric is not None and asked.metric_decides:
        name = score_name(asked.metric)
        before, after = reference.metrics[name], scores.metrics[name]
        if not before:  # a model that gets nothing right has nothing to lose there
            yield from _of_perplexity(scores, reference, allowed)
            return
        drop = _drop(before, after, greater_is_better=load_metric(asked.metric).greater_is_better)
        if drop <= allowed.task_drop:
            return
        difference = _paired(right.scores, trace.scores)
        lost = (
            f"{metric_words(name)} {score_words(name, after)} against {score_words(name, before)} with the tuned model: "
            f"{drop:.1%} of it is lost, where {allowed.task_drop:.1%} is allowed{_counted(difference)}"
        )
        if difference is None or difference.is_worse or scores.perplexity is None:
            yield lost
            return
        yield from (f"{lost}; {text}" for text in _of_perplexity(scores, reference, allowed))
        return
    yield from _of_perplexity(scores, reference, allowed)


def _of_perplexity(scores: StageScores, reference: StageScores, allowed: Tolerances) -> Iterator[str]:
    before, after = reference.perplexity, scores.perplexity
    if before is None or after is None:
        return
    rise = after / before - 1
    if not rise <= allowed.perplexity_rise:
        yield (
            f"the perplexity of right answers is {after:.4g} against {before:.4g} with the tuned model: {rise:+.1%}, "
            f"where {allowed.perplexity_rise:+.1%} is allowed"
        )


def _of_stopping(scores: StageScores, trace: Trace, reference: StageScores, right: Trace, allowed: Tolerances) -> Iterator[str]:
    if scores.stopped is None or reference.stopped is None or reference.stopped - scores.stopped <= allowed.task_drop:
        return
    difference = _paired([float(one) for one in right.stopped], [float(one) for one in trace.stopped])
    if difference is None or difference.is_worse:
        yield (
            f"{_share(scores.stopped)} of its answers stop by themselves, {_share(reference.stopped)} with the tuned model"
            f"{_counted(difference)}"
        )


def notes(scores: StageScores, trace: Trace, reference: StageScores, right: Trace, asked: EvaluationSet, allowed: Tolerances) -> list[str]:
    """Return what a reader should know of a stage that passed: losses that these rows can't show, and few positions."""
    said = []
    if scores.judged in ("float", "grid") and scores.top1_agreement is not None and scores.num_positions < _FEW_POSITIONS:
        said.append(f"{scores.name}: only {scores.num_positions:,} positions could be compared; more rows would tell more.")
    if scores.judged != "shown" and computes(scores) and asked.metric is not None and asked.metric_decides:
        name = score_name(asked.metric)
        drop = _drop(reference.metrics[name], scores.metrics[name], greater_is_better=load_metric(asked.metric).greater_is_better)
        difference = _paired(right.scores, trace.scores)
        if drop > allowed.task_drop and difference is not None and not difference.is_worse:
            said.append(
                f"{scores.name}: {metric_words(name)} {score_words(name, scores.metrics[name])} against "
                f"{score_words(name, reference.metrics[name])}{_counted(difference)} is within what chance does with "
                f"{difference.num_rows} rows; the perplexity of the right answers was the judge."
            )
    return said


def _drop(before: float, after: float, *, greater_is_better: bool) -> float:
    """Return which part of a metric is lost; negative where it got better."""
    lost = before - after if greater_is_better else after - before
    return lost / abs(before) if before else float(lost > 0)


def _paired(first: Sequence[float] | None, second: Sequence[float] | None) -> Difference | None:
    if not first or not second or len(first) != len(second):
        return None
    try:
        return paired_difference(first, second)
    except UserError:  # a row without a number
        return None


def _counted(difference: Difference | None) -> str:
    if difference is None:
        return ""
    return f" ({difference.num_rows:,} rows: {difference.num_worse} got worse, {difference.num_better} better)"


def _share(value: float) -> str:
    return f"{value:.2%}" if value > 0.9 and value != 1 else f"{value:.0%}"
