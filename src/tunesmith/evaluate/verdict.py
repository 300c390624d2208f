"""The honest result: whether a tuned model beats its base and what costs nothing, in one word, in sentences and in numbers.

It is a *gain* when the 95% interval of the difference to the base model lies above zero, and so does the 99% interval to the most
frequent answer (a model that was taught shuffled labels beats a base that rambles, but not that); *worse* when it lies below zero against
the base; anything else is *no gain shown*, which is not the same as *no gain*: the sentences say what could have been seen.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from tunesmith.artifact import write_file_atomically
from tunesmith.evaluate.baselines import MAJORITY
from tunesmith.evaluate.baselines import WORDS as BASELINE_WORDS
from tunesmith.evaluate.bootstrap import Difference, paired_difference
from tunesmith.json_record import read_record
from tunesmith.run_folder import VERDICT

CONFIDENCE = 0.95
#: Asked for against the most frequent answer: a model that gives known labels at random beats it by luck in one of forty runs at 95%.
FLOOR_CONFIDENCE = 0.99
#: Perplexity on general text may rise by so much before it is called forgetting.
FORGETTING_RATIO = 1.1

Outcome = Literal["gain", "no gain shown", "worse"]


@dataclass(frozen=True)
class Verdict:
    """Whether a model beats another one on the same rows.

    Attributes:
        outcome: ``gain``, ``no gain shown`` or ``worse``.
        metric: what was measured; of one row, so that rows can be compared in pairs; greater is better.
        num_rows: rows that both were scored on.
        base: mean score of the base model; None where it can't do the task at all (it has no such head).
        tuned: mean score of the tuned model.
        difference, interval: of tuned minus base, with its 95% bootstrap interval; without a base, minus the most frequent answer.
        baselines: mean score of what costs nothing, by name.
        against: the difference and interval of the tuned model to each baseline.
        others: further figures of both models by name, (base, tuned), such as the perplexity of the reference answers.
        forgetting: what ``forgetting.probe`` found, None where it was not looked at.
        words: the same in sentences.
        advice: the one command to type next.
    """

    outcome: Outcome
    metric: str
    num_rows: int
    base: float | None
    tuned: float
    difference: float | None = None
    interval: tuple[float, float] | None = None
    baselines: Mapping[str, float] = field(default_factory=dict)
    against: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)
    others: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    forgetting: Mapping[str, Any] | None = None
    words: tuple[str, ...] = ()
    advice: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the verdict as plain values; numbers that are not finite as None."""
        return {item.name: _plain(getattr(self, item.name)) for item in fields(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Verdict:
        """Read what :meth:`to_dict` wrote; keys of later versions are ignored."""
        known = {item.name: values[item.name] for item in fields(cls) if item.name in values}
        known["interval"] = tuple(known["interval"]) if known.get("interval") else None
        known["words"] = tuple(known.get("words") or ())
        for name in ("against", "others"):
            known[name] = {key: tuple(value) for key, value in (known.get(name) or {}).items()}
        return cls(**known)


@dataclass(frozen=True)
class Names:
    """What the two models are called in sentences."""

    base: str = "the base model"
    tuned: str = "the tuned model"


def decide(
    metric: str,
    base: Sequence[float] | None,
    tuned: Sequence[float],
    baselines: Mapping[str, Sequence[float]] | None = None,
    *,
    names: Names | None = None,
    seed: int = 0,
) -> Verdict:
    """Compare scores of the same rows.

    Args:
        metric: what the scores are.
        base, tuned: one score a row, greater is better; base None where the base can't do the task.
        baselines: scores of what costs nothing, by name (see ``baselines``).
        names: what the models are called.
        seed: of the bootstrap.

    Raises:
        ShapeError: when there are no rows, or not the same number for all.
    """
    names, baselines = names or Names(), baselines or {}
    against = {name: paired_difference(scores, tuned, confidence=CONFIDENCE, seed=seed) for name, scores in baselines.items()}
    floor = paired_difference(baselines[MAJORITY], tuned, confidence=FLOOR_CONFIDENCE, seed=seed) if MAJORITY in baselines else None
    to_base = paired_difference(base, tuned, confidence=CONFIDENCE, seed=seed) if base is not None else against.get(MAJORITY)
    outcome: Outcome = "no gain shown"
    if to_base is not None and to_base.is_worse:
        outcome = "worse"
    elif to_base is not None and to_base.is_better and (floor is None or floor.is_better):
        outcome = "gain"
    verdict = Verdict(
        outcome=outcome,
        metric=metric,
        num_rows=len(tuned),
        base=None if base is None else _mean(base),
        tuned=_mean(tuned),
        difference=to_base.mean if to_base else None,
        interval=(to_base.low, to_base.high) if to_base else None,
        baselines={name: _mean(scores) for name, scores in baselines.items()},
        against={name: (found.mean, found.low, found.high) for name, found in against.items()},
    )
    said = [headline(verdict, names), *_reasons(verdict, to_base, floor, names), *_beside(verdict, against)]
    return replace(verdict, words=tuple(said))


def headline(verdict: Verdict, names: Names) -> str:
    """Say the outcome with its numbers in one sentence."""
    metric, tuned = metric_words(verdict.metric), score_words(verdict.metric, verdict.tuned)
    start = verdict.outcome[:1].upper() + verdict.outcome[1:]
    if verdict.base is None:
        found = f"{start}: {metric} {tuned} on {verdict.num_rows:,} rows; {names.base} can't do this task"
        other = "the most frequent answer"
    else:
        found = (
            f"{start}: {metric} {score_words(verdict.metric, verdict.base)} with {names.base}, {tuned} with {names.tuned}, "
            f"on the same {verdict.num_rows:,} rows"
        )
        other = ""
    if verdict.difference is None or verdict.interval is None:
        return found + "."
    against = f" against {other}" if other else ""
    interval = interval_words(verdict.metric, *verdict.interval)
    return f"{found}: {difference_words(verdict.metric, verdict.difference)}{against} (95% interval {interval})."


def _reasons(verdict: Verdict, to_base: Difference | None, floor: Difference | None, names: Names) -> list[str]:
    """Say why no gain is shown, where none is."""
    if verdict.outcome != "no gain shown":
        return []
    if to_base is None:
        return ["There is nothing to compare it with."]
    if (to_base.low > 0 or to_base.high < 0) and not to_base.enough:
        return [
            f"Of {to_base.num_rows:,} rows {to_base.num_better} come out better and {to_base.num_worse} worse, which chance alone does in "
            f"{to_base.chance:.0%} of cases (exact sign test): too few rows to show anything."
        ]
    if to_base.is_better and verdict.base is None:
        return ["Against the most frequent answer a certainty of 99% is asked for, which these rows don't give."]
    if to_base.is_better and floor is not None:
        return [
            f"{names.tuned[:1].upper()}{names.tuned[1:]} is better than {names.base}, but not shown to be better than always giving the "
            "most frequent answer: it learnt how answers look, not which one is right."
        ]
    if not to_base.num_different:
        return ["Not a single row comes out differently."]
    width = (to_base.high - to_base.low) / 2
    return [
        f"The interval includes 0. With these rows a difference below about {difference_words(verdict.metric, width)[1:]} can't be seen."
    ]


def _beside(verdict: Verdict, against: Mapping[str, Difference]) -> list[str]:
    """Say how what costs nothing does on the same rows."""
    if not verdict.baselines:
        return []
    told = "; ".join(f"{BASELINE_WORDS.get(name, name)} {score_words(verdict.metric, value)}" for name, value in verdict.baselines.items())
    unbeaten = [BASELINE_WORDS.get(name, name) for name, found in against.items() if not found.is_better and name != MAJORITY]
    lines = [f"What costs nothing reaches: {told}."]
    if verdict.outcome == "gain" and unbeaten:
        lines.append(f"It is not shown to beat {' and '.join(unbeaten)}, so that may be all this task needs.")
    return lines


def with_forgetting(verdict: Verdict, found: Mapping[str, Any] | None) -> Verdict:
    """Add what the forgetting probe found, and its sentence."""
    if not found:
        return verdict
    return replace(verdict, forgetting=dict(found), words=(*verdict.words, str(found["words"])))


# Numbers in words

_PERCENT = frozenset({"accuracy", "exact_match", "balanced_accuracy", "schema_valid", "token_accuracy", "threshold_accuracy"})
_METRIC_WORDS = {
    "exact_match": "exact answers",
    "rougeL": "ROUGE-L",
    "rouge_l": "ROUGE-L",
    "field_f1": "field F1",
    "span_f1": "span F1",
    "token_f1": "token F1",
    "log_likelihood": "log-likelihood a token",
}


def metric_words(metric: str) -> str:
    """Return what a metric is called in a sentence."""
    return _METRIC_WORDS.get(metric, metric.replace("_", " "))


def score_words(metric: str, value: float) -> str:
    """Write a score: shares as percent, anything else with three digits."""
    return f"{value:.1%}" if metric in _PERCENT else f"{value:.3f}"


def difference_words(metric: str, value: float) -> str:
    """Write a difference with its sign: shares in percentage points."""
    return f"{100 * value:+.1f} points" if metric in _PERCENT else f"{value:+.3f}"


def interval_words(metric: str, low: float, high: float) -> str:
    """Write the interval of a difference."""
    return f"{difference_words(metric, low).removesuffix(' points')} to {difference_words(metric, high)}"


def _mean(scores: Sequence[float]) -> float:
    return math.fsum(scores) / len(scores)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


# The file


def write_verdict(folder: Path, verdict: Verdict) -> None:
    """Keep the verdict in a run's folder."""
    write_file_atomically(folder / VERDICT, json.dumps(verdict.to_dict(), indent=2, ensure_ascii=False) + "\n")


def read_verdict(folder: Path) -> Verdict | None:
    """Return the verdict of a run, None where none was given.

    Raises:
        ModelError: for one that can't be read.
    """
    return read_record(folder / VERDICT, Verdict.from_dict, fix="Remove it; tunesmith compare gives it again")
