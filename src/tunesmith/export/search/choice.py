"""Which of the recipes that were tried is taken: quality, budgets, and the Pareto front. Numbers in, a choice out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tunesmith.evaluate.judge import score_name
from tunesmith.evaluate.verdict import metric_words, score_words
from tunesmith.export.evaluation_set import EvaluationSet
from tunesmith.export.search.records import Trial
from tunesmith.export.stages import StageScores
from tunesmith.export.tolerances import Tolerances
from tunesmith.metrics import load_metric

#: A recipe that loses so many times what it may has failed badly: what is never better need not be tried.
BADLY = 3.0


@dataclass(frozen=True)
class Quality:
    """The figure by which recipes are compared: the task's metric where it decides, else the perplexity of right answers.

    Attributes:
        name: of the figure.
        greater_is_better: its direction.
        reference: its value with the tuned model.
        allowed: the part of it that may be lost.
    """

    name: str
    greater_is_better: bool
    reference: float
    allowed: float

    @classmethod
    def of(cls, reference: StageScores, asked: EvaluationSet, tolerances: Tolerances) -> Quality:
        """Return what decides, by the rules of :mod:`tunesmith.export.judging`."""
        if asked.metric is not None and asked.metric_decides:
            name = score_name(asked.metric)
            if value := reference.metrics[name]:
                return cls(name, load_metric(asked.metric).greater_is_better, value, tolerances.task_drop)
        return cls("perplexity", False, reference.perplexity or math.inf, tolerances.perplexity_rise)

    def value(self, scores: StageScores) -> float:
        """Return the figure of a stage; the worst there is where it has none."""
        found = scores.perplexity if self.name == "perplexity" else scores.metrics.get(self.name)
        return found if found is not None else -math.inf if self.greater_is_better else math.inf

    def lost(self, scores: StageScores) -> float:
        """Return the part that is lost; negative where it is better."""
        difference = self.reference - self.value(scores)
        lost = difference if self.greater_is_better else -difference
        return lost / abs(self.reference) if math.isfinite(self.reference) else lost

    def failed_badly(self, trial: Trial) -> bool:
        """Whether a trial lost many times what it may."""
        return not trial.keeps and not self.lost(trial.scores) <= BADLY * self.allowed

    def words(self, scores: StageScores) -> str:
        """Return the figure for people."""
        value = self.value(scores)
        return "–" if not math.isfinite(value) else f"{value:.4g}" if self.name == "perplexity" else score_words(self.name, value)

    @property
    def is_percent(self) -> bool:
        """Whether it is a share that people read as percent."""
        return self.name != "perplexity" and score_words(self.name, 1.0).endswith("%")

    @property
    def heading(self) -> str:
        """What the figure is called."""
        return metric_words(self.name)


@dataclass(frozen=True)
class Limits:
    """What a recipe has to keep to.

    Attributes:
        max_bytes: of the model's files.
        max_token_ms: for each written token.
        best: take the best quality within the limits, not the smallest that loses nothing.
    """

    max_bytes: float = math.inf
    max_token_ms: float = math.inf
    best: bool = False

    def fits(self, trial: Trial) -> bool:
        """Whether a trial is small enough, and, as far as was measured, fast enough."""
        return trial.size_bytes <= self.max_bytes and (trial.token_ms is None or trial.token_ms <= self.max_token_ms)


def ranked(trials: Sequence[Trial], quality: Quality, limits: Limits, *, lossy: bool = False) -> list[Trial]:
    """Return the trials that may be taken, the best choice first.

    The smallest comes first, of equally small ones the better; with ``limits.best`` the better, of equally good ones the nearest to the
    tuned model, then the smaller.

    Args:
        lossy: also those that lost more than they may, by quality.
    """
    fitting = [trial for trial in trials if limits.fits(trial) and (lossy or trial.keeps)]
    if limits.best or lossy:
        return sorted(fitting, key=lambda trial: (*_by_quality(trial, quality), trial.size_bytes))
    return sorted(fitting, key=lambda trial: (trial.size_bytes, *_by_quality(trial, quality)))


def pareto_front(trials: Sequence[Trial], quality: Quality) -> list[Trial]:
    """Return the trials that no other beats in both size and quality, the smallest first."""
    front: list[Trial] = []
    for trial in sorted(trials, key=lambda trial: (trial.size_bytes, *_by_quality(trial, quality))):
        lost = quality.lost(trial.scores)
        if math.isfinite(lost) and (not front or lost < quality.lost(front[-1].scores)):
            front.append(trial)
    return front


def nearest_words(trials: Sequence[Trial], quality: Quality, limits: Limits) -> str:
    """Return, in one line, what came nearest to limits that nothing keeps: the best within them, and the smallest that loses nothing."""
    said = []
    known = [trial for trial in trials if trial.token_ms is not None or math.isinf(limits.max_token_ms)]
    if within := ranked(known, quality, limits, lossy=True):
        said.append(f"the best within it is {_shown(within[0], quality)}")
    if kept := ranked(trials, quality, Limits()):
        said.append(f"the smallest that loses nothing is {_shown(kept[0], quality)}")
    elif rest := ranked([trial for trial in trials if not limits.fits(trial)], quality, Limits(), lossy=True):
        said.append(f"the best beyond it is {_shown(rest[0], quality)}")
    return "; ".join(said)


def _shown(trial: Trial, quality: Quality) -> str:
    speed = "" if trial.token_ms is None else f", {trial.token_ms:.1f} ms a token"
    return f"{trial.recipe.name}: {trial.size_bytes / 1e6:.1f} MB{speed}, {quality.heading} {quality.words(trial.scores)}"


def _by_quality(trial: Trial, quality: Quality) -> tuple[float, float]:
    """Sort keys: what is lost, then the divergence from the tuned model, which tells apart what few rows can't."""
    return quality.lost(trial.scores), math.inf if trial.scores.kl is None else trial.scores.kl
