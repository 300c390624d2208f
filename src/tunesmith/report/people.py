"""What people said of the answers, as a page tells it: win rates, mean scores, agreement and comments of a rating's folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tunesmith.evaluate.rating.folder import Rating, read_rating
from tunesmith.evaluate.rating.summary import Comparison, MeanScore, RatingSummary, read_result
from tunesmith.report.run_files import run_name, short_name

#: More comments than that are read in the rating's own folder.
MOST_COMMENTS = 20
_HIGHEST_SCORE = 5


@dataclass(frozen=True)
class Preference:
    """One model against another: the models, judgements for, tied and against, the win rate in words and as a share of 0 to 1."""

    model: str
    against: str
    counts: str
    win_rate: str
    share: float


@dataclass(frozen=True)
class Score:
    """A model's mean score in words, and as a share of the highest."""

    model: str
    mean: str
    share: float


@dataclass(frozen=True)
class Comment:
    """What a rater wrote, of which prompt."""

    rater: str
    item: int
    prompt: str
    words: str


@dataclass(frozen=True)
class PeopleSaid:
    """A rating on a page.

    Attributes:
        name: the folder's.
        words: the result in sentences, the most important first.
        preferences, scores: the figures behind them.
        comments: the first :data:`MOST_COMMENTS`; ``num_more``: comments beyond these.
    """

    name: str
    words: tuple[str, ...]
    preferences: tuple[Preference, ...]
    scores: tuple[Score, ...]
    comments: tuple[Comment, ...]
    num_more: int


def read_people(folders: Sequence[Path], runs: Sequence[Path]) -> list[PeopleSaid]:
    """Return what the ratings in ``folders`` say; models that are one of the ``runs`` are marked.

    Raises:
        DataError: for a folder without a rating, without a vote, or with one that can't be read.
    """
    return [_read(folder, {run.resolve() for run in runs}) for folder in folders]


def _read(folder: Path, runs: set[Path]) -> PeopleSaid:
    rating = read_rating(folder)
    found = _renamed(read_result(folder), _names(rating.models, runs))
    comments = [Comment(rater, item, _prompt(rating, item), words) for rater, item, words in found.comments]
    return PeopleSaid(
        name=run_name(folder),
        words=found.words,
        preferences=tuple(_preference(one) for one in found.comparisons),
        scores=tuple(_score(one) for one in found.scores),
        comments=tuple(comments[:MOST_COMMENTS]),
        num_more=max(0, len(comments) - MOST_COMMENTS),
    )


def _names(models: Sequence[str], runs: set[Path]) -> dict[str, str]:
    """Return what models are called on the page: without folders of this machine where that tells them apart, and marked if a run."""
    short = [short_name(model) for model in models]
    called = short if len(set(short)) == len(short) else models
    return {model: f"{name} (this run)" if _is_one_of(model, runs) else name for model, name in zip(models, called, strict=True)}


def _renamed(found: RatingSummary, names: Mapping[str, str]) -> RatingSummary:
    return replace(
        found,
        models=tuple(names[model] for model in found.models),
        comparisons=tuple(replace(one, model=names[one.model], against=names[one.against]) for one in found.comparisons),
        scores=tuple(replace(one, model=names[one.model]) for one in found.scores),
    )


def _is_one_of(model: str, runs: set[Path]) -> bool:
    path = Path(model).expanduser()
    return path.is_dir() and path.resolve() in runs


def _preference(one: Comparison) -> Preference:
    low, high = one.interval
    words = f"{one.win_rate:.0%} ({low:.0%} to {high:.0%})"
    return Preference(one.model, one.against, f"{one.wins} / {one.ties} / {one.losses}", words, one.win_rate)


def _score(one: MeanScore) -> Score:
    interval = "" if one.interval is None else f" ({one.interval[0]:.2f} to {one.interval[1]:.2f})"
    return Score(one.model, f"{one.mean:.2f}{interval}", one.mean / _HIGHEST_SCORE)


def _prompt(rating: Rating, item: int) -> str:
    return rating.prompts[item - 1].text
