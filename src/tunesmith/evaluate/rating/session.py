"""What the page is told and what it may say; models go by their place on the screen here, their names never leave the program."""

from __future__ import annotations

import datetime
import threading
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from tunesmith.errors import OutputError, UsageError
from tunesmith.evaluate.rating.folder import Rating, Vote, is_score, latest_votes
from tunesmith.evaluate.rating.json_log import JsonLog
from tunesmith.evaluate.rating.order import Screen, draw_screens

MAX_NAME = 60
MAX_COMMENT = 10_000
MAX_RATERS = 1_000

Reply = dict[str, Any]


class UnknownScreen(UsageError):
    """A number that is no screen of the rater."""


class RatingSession:
    """A rating while it is going on; all methods may be called from several threads.

    Attributes:
        rating: what is rated.
    """

    def __init__(self, rating: Rating, answers: Sequence[Mapping[str, str]], log: JsonLog) -> None:
        """Go on where the log ends.

        Args:
            rating: what is rated.
            answers: for each prompt the answers by model.
            log: of the votes, open.

        Raises:
            DataError: when the log holds something that is no vote of this rating.
        """
        self.rating = rating
        self._answers = answers
        self._log = log
        self._lock = threading.Lock()
        self._votes = {vote.subject: vote for vote in latest_votes(rating, log.records)}
        self._names = {_key(vote.rater): vote.rater for vote in self._votes.values()}
        self._screens: dict[str, list[Screen]] = {}
        self._ended = False

    def close(self) -> None:
        """End the rating: a vote that is being written is waited for, later ones are refused; the log may be closed then."""
        with self._lock:
            self._ended = True

    def begin(self, rater: object) -> Reply:
        """Return the rater's name as it is kept, and the first screen that is not rated yet.

        Raises:
            UsageError: for a name that is none.
        """
        with self._lock:
            name = self._known(rater)
            return self._screen(name, self._next(name, 1))

    def screen(self, rater: object, number: object) -> Reply:
        """Return what a screen shows.

        Raises:
            UsageError: for a name that is none.
            UnknownScreen: when the rater has no screen of this number.
        """
        with self._lock:
            name = self._known(rater)
            return self._screen(name, self._checked(name, number))

    def vote(self, rater: object, number: object, verdict: object, comment: object) -> Reply:
        """Keep a vote, and return the next screen to be rated; it is on the disk when this returns.

        Args:
            rater: the rater's name.
            number: of the screen, from 1.
            verdict: with ``pairs`` the place of the better answer, from 1, or 0 for a tie; with ``1-5`` a list of a score for each answer.
            comment: the rater's words, perhaps empty.

        Raises:
            UsageError: for a name, verdict or comment that is none.
            UnknownScreen: when the rater has no screen of this number.
            OutputError: when the vote can't be written, or the rating has ended.
        """
        with self._lock:
            name = self._known(rater)
            position = self._checked(name, number)
            screen = self._of(name)[position - 1]
            winner, scores = self._verdict(screen, verdict)
            if self._ended:
                raise OutputError("the rating has ended, so this is not saved")
            now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
            vote = Vote(name, screen.item, screen.models, winner, scores, _comment(comment), now)
            self._log.append(vote.to_dict())
            self._votes[vote.subject] = vote
            return self._screen(name, self._next(name, position + 1))

    def _screen(self, name: str, position: int) -> Reply:
        screens = self._of(name)
        done = sum(self._vote_on(name, screen) is not None for screen in screens)
        reply: Reply = {"rater": name, "scale": self.rating.scale, "total": len(screens), "done": done, "number": position}
        if position > len(screens):
            return {**reply, "finished": True}
        screen = screens[position - 1]
        prompt, answers = self.rating.prompts[screen.item - 1], self._answers[screen.item - 1]
        shown = {"prompt": prompt.text, "reference": prompt.reference, "answers": [answers[model] for model in screen.models]}
        return {**reply, "finished": False, **shown, "vote": _placed(screen, self._vote_on(name, screen))}

    def _next(self, name: str, position: int) -> int:
        """Return the first screen from ``position`` on that is not rated yet, then the first before it; behind all when none is."""
        screens = self._of(name)
        order = [*range(position, len(screens) + 1), *range(1, position)]
        return next((number for number in order if self._vote_on(name, screens[number - 1]) is None), len(screens) + 1)

    def _vote_on(self, name: str, screen: Screen) -> Vote | None:
        return self._votes.get((name, screen.item, frozenset(screen.models)))

    def _of(self, name: str) -> list[Screen]:
        if name not in self._screens:
            rating = self.rating
            self._screens[name] = draw_screens(rating.scale, rating.models, self._answers, seed=rating.seed, rater=_key(name))
        return self._screens[name]

    def _known(self, rater: object) -> str:
        """Return a rater's name as it was first written; case and blanks make no other rater."""
        if not isinstance(rater, str):
            raise UsageError("a rater's name is a text")
        name = " ".join(unicodedata.normalize("NFC", rater).split())
        if not name or len(name) > MAX_NAME or not name.isprintable():
            raise UsageError(f"a rater's name has 1 to {MAX_NAME} letters", fix="Write another one")
        if _key(name) not in self._names and len(self._names) >= MAX_RATERS:
            raise UsageError(f"there are {MAX_RATERS} raters already")
        return self._names.setdefault(_key(name), name)

    def _checked(self, name: str, number: object) -> int:
        if not isinstance(number, int) or isinstance(number, bool):
            raise UsageError("the number of a prompt is a whole number")
        if not 1 <= number <= len(self._of(name)):
            raise UnknownScreen(f"there is no prompt {number}; there are {len(self._of(name))}")
        return number

    def _verdict(self, screen: Screen, verdict: object) -> tuple[str | None, dict[str, int] | None]:
        if self.rating.scale == "1-5":
            if not isinstance(verdict, list) or len(verdict) != len(screen.models) or not all(map(is_score, verdict)):
                raise UsageError(f"a verdict is {len(screen.models)} numbers from 1 to 5")
            return None, dict(zip(screen.models, verdict, strict=True))
        if not isinstance(verdict, int) or isinstance(verdict, bool) or not 0 <= verdict <= len(screen.models):
            raise UsageError("a verdict is 1, 2, or 0 for a tie")
        return (screen.models[verdict - 1] if verdict else None), None


def _placed(screen: Screen, vote: Vote | None) -> Reply | None:
    """Return an earlier vote by places on the screen."""
    if vote is None:
        return None
    if vote.scores is not None:
        return {"verdict": [vote.scores[model] for model in screen.models], "comment": vote.comment}
    return {"verdict": screen.models.index(vote.winner) + 1 if vote.winner is not None else 0, "comment": vote.comment}


def _comment(comment: object) -> str:
    if not isinstance(comment, str):
        raise UsageError("a comment is a text")
    if len(comment) > MAX_COMMENT:
        raise UsageError(f"a comment has at most {MAX_COMMENT:,} letters; this one has {len(comment):,}")
    return comment.strip()


def _key(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold()
