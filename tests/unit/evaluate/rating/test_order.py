"""The order that raters see: drawn, blind, balanced, and the same after every restart."""

from __future__ import annotations

import collections

from tunesmith.evaluate.rating.order import Screen, draw_screens, pairs_of

TWO, THREE = ("a", "b"), ("a", "b", "c")


def answers(models: tuple[str, ...], num: int) -> list[dict[str, str]]:
    return [{model: f"{model} {item}" for model in models} for item in range(num)]


def draw(models: tuple[str, ...] = TWO, num: int = 6, *, seed: int = 0, rater: str = "ada", scale: str = "pairs") -> list[Screen]:
    return draw_screens(scale, models, answers(models, num), seed=seed, rater=rater)  # type: ignore[arg-type]


def test_the_same_seed_and_rater_see_the_same() -> None:
    assert draw() == draw()
    assert draw(num=40) != draw(num=40, seed=1)
    assert draw(num=40) != draw(num=40, rater="bob")


def test_the_order_never_changes_with_a_version_of_python() -> None:
    # a rating that is gone on with by another Python has to show the answers in the places where the votes were given
    assert [(screen.item, "".join(screen.models)) for screen in draw()] == [
        (1, "ba"),
        (5, "ab"),
        (2, "ba"),
        (6, "ab"),
        (3, "ba"),
        (4, "ba"),
    ]


def test_places_are_balanced() -> None:
    first = collections.Counter(screen.models[0] for screen in draw(num=400))
    assert 160 <= first["a"] <= 240
    three = collections.Counter(screen.models for screen in draw(THREE, 300, scale="1-5"))
    assert len(three) == 6
    assert min(three.values()) > 25


def test_prompts_come_in_no_order_of_the_file() -> None:
    items = [screen.item for screen in draw(num=50)]
    assert sorted(items) == list(range(1, 51))
    assert items != sorted(items)


def test_every_pair_of_three_models_once_and_every_prompt_before_any_comes_again() -> None:
    screens = draw(THREE, 20)
    assert len(screens) == 60
    assert {(screen.item, frozenset(screen.models)) for screen in screens} == {
        (item, frozenset(pair)) for item in range(1, 21) for pair in pairs_of(THREE)
    }
    for start in (0, 20, 40):
        assert {screen.item for screen in screens[start : start + 20]} == set(range(1, 21))
    assert len({frozenset(screen.models) for screen in screens[:20]}) == 3, "which pair comes first is drawn too"


def test_answers_that_are_the_same_are_not_compared() -> None:
    given = [{"a": "yes", "b": "yes\n"}, {"a": "yes", "b": "no"}]
    assert [screen.item for screen in draw_screens("pairs", TWO, given, seed=0, rater="ada")] == [2]
    assert len(draw_screens("1-5", TWO, given, seed=0, rater="ada")) == 2, "but each is scored"
