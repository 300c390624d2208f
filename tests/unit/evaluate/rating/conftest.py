"""A small rating to work on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tunesmith.evaluate.rating.folder import Rating, create_rating, read_rating
from tunesmith.evaluate.rating.order import Scale
from tunesmith.evaluate.rating.prompts import RatingPrompt

MakeRating = Callable[..., Rating]


@pytest.fixture
def make_rating(tmp_path: Path) -> MakeRating:
    """Make a folder with a rating in which model X answers prompt N with ``X says N``."""

    def make(
        *, models: tuple[str, ...] = ("anna-7b", "bert-9z"), num_prompts: int = 4, scale: Scale = "pairs", name: str = "ratings"
    ) -> Rating:
        prompts = tuple(RatingPrompt(f"prompt {item}", reference="so" if item == 1 else None) for item in range(1, num_prompts + 1))
        words = ("one", "two", "three")
        answers = [[f"{word} says {item}" for item in range(1, num_prompts + 1)] for word in words[: len(models)]]
        create_rating(Rating(tmp_path / name, scale, models, 7, prompts, {}), answers)
        return read_rating(tmp_path / name)

    return make
