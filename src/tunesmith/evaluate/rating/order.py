"""What a rater sees, in which order: drawn from a seed, the rater's name and the prompt, so that it is the same after every restart.

Nothing about the order tells which model an answer is from: answers change places from prompt to prompt and from rater to rater.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

Scale = Literal["pairs", "1-5"]
_T = TypeVar("_T")


@dataclass(frozen=True)
class Screen:
    """What is judged at once.

    Attributes:
        item: number of the prompt, from 1.
        models: whose answers are shown, in the order on the screen.
    """

    item: int
    models: tuple[str, ...]


def draw_screens(scale: Scale, models: Sequence[str], answers: Sequence[Mapping[str, str]], *, seed: int, rater: str) -> list[Screen]:
    """Return every screen of a rater, in their order.

    With ``pairs`` every pair of answers to a prompt is a screen of its own, unless both are the same text; every prompt comes once before
    any comes again. With ``1-5`` a screen has all answers to a prompt.

    Args:
        scale: how is judged.
        models: their names.
        answers: for each prompt the answers by model.
        seed: of the rating.
        rater: who rates.
    """
    screens = []
    for item, given in enumerate(answers, start=1):
        for round_number, group in enumerate(_groups(scale, models, given, (seed, rater, item))):
            place = (round_number, _draw(seed, rater, "order", item, round_number))
            screens.append((place, Screen(item, tuple(_shuffled(group, (seed, rater, item, round_number))))))
    return [screen for _, screen in sorted(screens, key=lambda one: one[0])]


def pairs_of(models: Sequence[str]) -> list[tuple[str, str]]:
    """Return every pair of models, in the order of their names' list."""
    return list(itertools.combinations(models, 2))


def _groups(scale: Scale, models: Sequence[str], given: Mapping[str, str], parts: tuple[object, ...]) -> list[tuple[str, ...]]:
    if scale == "1-5":
        return [tuple(models)]
    return _shuffled([pair for pair in pairs_of(models) if given[pair[0]].strip() != given[pair[1]].strip()], (*parts, "pairs"))


def _shuffled(things: Sequence[_T], parts: tuple[object, ...]) -> list[_T]:
    return [thing for _, thing in sorted(enumerate(things), key=lambda one: _draw(*parts, one[0]))]


def _draw(*parts: object) -> bytes:
    """Return bytes that are as good as random and the same on every machine and Python, which ``random.shuffle`` doesn't promise."""
    return hashlib.sha256(repr(parts).encode("utf-8", errors="surrogatepass")).digest()
