"""What a rating says: who is preferred and how surely, mean scores, and how far raters agree.

Every prompt counts once, however many raters judged it: their judgements of one prompt are averaged first, since they are no independent
trials of a model. Intervals are therefore over prompts.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith.artifact import write_file_atomically
from tunesmith.errors import DataError
from tunesmith.evaluate.rating.agreement import Agreement, agreement
from tunesmith.evaluate.rating.folder import EXPORT, Rating, Vote, is_rating, read_answers_of, read_rating, read_votes
from tunesmith.evaluate.rating.intervals import Interval, mean_interval, wilson_interval
from tunesmith.evaluate.rating.json_log import json_bytes
from tunesmith.evaluate.rating.order import draw_screens, pairs_of


@dataclass(frozen=True)
class Comparison:
    """One model against another.

    Attributes:
        model, against: their names.
        wins, ties, losses: judgements of raters, from ``model``'s side.
        num_prompts: prompts on which somebody judged the two.
        num_same: further prompts, where both answered the same, so that nobody was asked.
        win_rate: mean over prompts of 1 for a win, 1/2 for a tie, 0 for a loss.
        interval: of the win rate, 95%.
    """

    model: str
    against: str
    wins: int
    ties: int
    losses: int
    num_prompts: int
    num_same: int
    win_rate: float
    interval: Interval

    @property
    def outcome(self) -> str:
        """``preferred``, ``not preferred``, or ``no preference shown`` when the interval contains one half."""
        if self.interval[0] > 0.5:
            return "preferred"
        return "not preferred" if self.interval[1] < 0.5 else "no preference shown"


@dataclass(frozen=True)
class MeanScore:
    """A model's mean score on the scale from 1 to 5, over ``num_prompts`` prompts; the interval is None for one prompt alone."""

    model: str
    mean: float
    interval: Interval | None
    num_prompts: int


@dataclass(frozen=True)
class RaterProgress:
    """How far a rater is: screens rated, of all."""

    name: str
    num_rated: int
    num_screens: int


@dataclass(frozen=True)
class RatingSummary:
    """The result of a rating so far.

    Attributes:
        scale: ``pairs`` or ``1-5``.
        models: what was rated.
        num_prompts, num_votes: prompts of the rating; votes that count.
        raters: who rated, and how far.
        comparisons: every two models that were compared; with ``1-5`` the higher score wins.
        scores: with ``1-5`` the mean scores.
        agreement: between raters; None for one rater, or nothing that all rated.
        comments: (rater, item, comment), as given.
    """

    scale: str
    models: tuple[str, ...]
    num_prompts: int
    num_votes: int
    raters: tuple[RaterProgress, ...]
    comparisons: tuple[Comparison, ...]
    scores: tuple[MeanScore, ...]
    agreement: Agreement | None
    comments: tuple[tuple[str, int, str], ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the summary as plain values, with what it says in words."""
        return {**dataclasses.asdict(self), "words": list(self.words)}

    @property
    def words(self) -> tuple[str, ...]:
        """The result in sentences, most important first."""
        preferences = [_preference(one) for one in self.comparisons]
        scores = [_mean(one) for one in self.scores]
        return (*preferences, *scores, _agreement(self.agreement, len(self.raters)), self._progress())

    def _progress(self) -> str:
        each = ", ".join(f"{rater.name} {rater.num_rated} of {rater.num_screens}" for rater in self.raters)
        return f"{_count(self.num_votes, 'vote')} on {_count(self.num_prompts, 'prompt')}; rated so far: {each}."


def read_summary(folder: str | Path) -> RatingSummary | None:
    """Return the result of a rating so far; None when the folder holds no rating, or one without a vote.

    Raises:
        DataError: when there is a rating that can't be read.
    """
    path = Path(folder)
    if not is_rating(path):
        return None
    rating = read_rating(path)
    votes = read_votes(rating)
    return summarize(rating, read_answers_of(rating), votes) if votes else None


def read_result(folder: Path) -> RatingSummary:
    """Return the result of the rating in a folder.

    Raises:
        DataError: when there is no rating, no vote, or something that can't be read.
    """
    read_rating(folder)  # which says what is wrong where there is none
    summary = read_summary(folder)
    if summary is None:
        raise DataError("nobody has rated yet", file=str(folder), fix=f"Rate first: tunesmith rate --output_path {folder}")
    return summary


def summarize(rating: Rating, answers: Sequence[Mapping[str, str]], votes: Sequence[Vote]) -> RatingSummary:
    """Return what votes say.

    Args:
        rating: what was rated.
        answers: for each prompt the answers by model.
        votes: those that count, at most one of each rater on the same answers.
    """
    compared = [_compare(pair, answers, votes) for pair in pairs_of(rating.models)]
    return RatingSummary(
        rating.scale,
        rating.models,
        len(rating.prompts),
        len(votes),
        tuple(_raters(rating, answers, votes)),
        tuple(one for one in compared if one is not None),
        tuple(_means(rating, votes)),
        agreement(_categories(votes), ordered=rating.scale == "1-5"),
        tuple((vote.rater, vote.item, vote.comment) for vote in votes if vote.comment),
    )


def export_rating(rating: Rating, votes: Sequence[Vote]) -> Path:
    """Write everything as ``export.jsonl``, a line a prompt with its answers by model and its votes; returns the file."""
    answers = read_answers_of(rating)
    by_item: dict[int, list[Vote]] = defaultdict(list)
    for vote in votes:
        by_item[vote.item].append(vote)
    lines = []
    for item, (prompt, given) in enumerate(zip(rating.prompts, answers, strict=True), start=1):
        told = [{name: value for name, value in vote.to_dict().items() if name != "item"} for vote in by_item[item]]
        lines.append(json_bytes({"item": item, "prompt": prompt.text, "reference": prompt.reference, "answers": given, "votes": told}))
    path = rating.folder / EXPORT
    write_file_atomically(path, b"".join(lines))
    return path


def _compare(pair: tuple[str, str], answers: Sequence[Mapping[str, str]], votes: Sequence[Vote]) -> Comparison | None:
    """Return one model against another; None when nobody judged the two."""
    by_item: dict[int, list[float]] = defaultdict(list)
    for vote in votes:
        if set(pair) <= set(vote.shown):
            by_item[vote.item].append(_points(vote, *pair))
    if not by_item:
        return None
    given = [points for item in by_item.values() for points in item]
    num_same = sum(item not in by_item and _alike(texts, *pair) for item, texts in enumerate(answers, start=1))
    rate = statistics.fmean(statistics.fmean(points) for points in by_item.values())
    counts = given.count(1.0), given.count(0.5), given.count(0.0)
    return Comparison(*pair, *counts, len(by_item), num_same, rate, wilson_interval(rate, len(by_item)))


def _points(vote: Vote, model: str, against: str) -> float:
    """Return 1 when a vote prefers ``model``, 0 when the other, 1/2 for a tie."""
    if vote.scores is None:
        return 0.5 if vote.winner is None else float(vote.winner == model)
    return 0.5 + 0.5 * ((vote.scores[model] > vote.scores[against]) - (vote.scores[model] < vote.scores[against]))


def _alike(texts: Mapping[str, str], model: str, against: str) -> bool:
    return model in texts and against in texts and texts[model].strip() == texts[against].strip()


def _means(rating: Rating, votes: Sequence[Vote]) -> list[MeanScore]:
    found = []
    for model in rating.models:
        by_item: dict[int, list[int]] = defaultdict(list)
        for vote in votes:
            if vote.scores is not None:
                by_item[vote.item].append(vote.scores[model])
        values = [statistics.fmean(scores) for scores in by_item.values()]
        if values:
            found.append(MeanScore(model, statistics.fmean(values), _within(mean_interval(values)), len(values)))
    return found


def _within(interval: Interval | None) -> Interval | None:
    """Cut an interval where the scale ends."""
    return None if interval is None else (max(1.0, interval[0]), min(5.0, interval[1]))


def _categories(votes: Sequence[Vote]) -> dict[str, dict[Hashable, Hashable]]:
    """Return what each rater said of each unit: the better model of a pair, or the score of an answer."""
    ratings: dict[str, dict[Hashable, Hashable]] = defaultdict(dict)
    for vote in votes:
        if vote.scores is None:
            ratings[vote.rater][vote.item, frozenset(vote.shown)] = (vote.winner,)
        else:
            ratings[vote.rater].update({(vote.item, model): score for model, score in vote.scores.items()})
    return dict(ratings)


def _raters(rating: Rating, answers: Sequence[Mapping[str, str]], votes: Sequence[Vote]) -> list[RaterProgress]:
    complete = all(set(rating.models) <= set(given) for given in answers)
    num_screens = len(draw_screens(rating.scale, rating.models, answers, seed=0, rater="")) if complete else 0
    names = dict.fromkeys(vote.rater for vote in votes)
    return [RaterProgress(name, sum(vote.rater == name for vote in votes), num_screens) for name in names]


def _preference(one: Comparison) -> str:
    better, worse, rate, (low, high) = one.model, one.against, one.win_rate, one.interval
    if rate < 0.5:
        better, worse, rate, (low, high) = worse, better, 1 - rate, (1 - high, 1 - low)
    numbers = f"{rate:.0%} of {_count(one.num_prompts, 'prompt')} (95% interval {low:.0%} to {high:.0%}, ties count half)"
    same = f" On {one.num_same} more both gave the same answer." if one.num_same else ""
    if one.outcome == "no preference shown":
        return f"No preference shown between {better} and {worse}: {better} wins {numbers}.{same}"
    return f"{better} is preferred to {worse}: it wins {numbers}.{same}"


def _mean(one: MeanScore) -> str:
    interval = "" if one.interval is None else f" (95% interval {one.interval[0]:.2f} to {one.interval[1]:.2f})"
    return f"{one.model}: mean score {one.mean:.2f} of 5{interval} over {_count(one.num_prompts, 'prompt')}."


def _agreement(found: Agreement | None, num_raters: int) -> str:
    if found is None:
        return "One rater: how far raters agree is not known." if num_raters < 2 else "There is nothing that all raters rated, so no kappa."
    about = f"{found.share:.0%} of judgements agree, {_count(found.num_units, 'judgement')} of {len(found.raters)} raters"
    if found.kappa is None:
        return f"Agreement: {about}; all are the same, so kappa is undefined."
    return f"Agreement between raters: {found.measure} {found.kappa:.2f}, {found.strength} ({about})."


def _count(num: int, noun: str) -> str:
    return f"{num:,} {noun}{'' if num == 1 else 's'}"
