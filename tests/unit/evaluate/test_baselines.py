"""What costs nothing does what its name says."""

from __future__ import annotations

import numpy as np
import pytest

from tunesmith.evaluate.baselines import COPY, LEAD, MAJORITY, TFIDF, Examples, baseline_answers, lead, majority, tfidf_logistic_regression

TRAIN = Examples(
    tuple(f"{text} number {number}" for number in range(20) for text in ("where is my card", "the parcel came late", "thanks a lot!")),
    ("card", "parcel", "thanks") * 20,
)


def test_the_most_frequent_answer() -> None:
    assert majority(["b", "a", "a", "b", "c", "a"], 2) == ["a", "a"]
    assert majority(["b", "a"], 1) == ["b"], "of several the first"


def test_tfidf_learns_words() -> None:
    assert tfidf_logistic_regression(TRAIN, ["is my card here", "parcel late", "thanks!"]) == ["card", "parcel", "thanks"]


def test_tfidf_needs_words_and_two_labels() -> None:
    assert tfidf_logistic_regression(Examples(("a", "b"), ("x", "x")), ["a"]) is None
    assert tfidf_logistic_regression(Examples(("", " "), ("x", "y")), ["a"]) is None


def test_tfidf_learns_nothing_from_shuffled_labels() -> None:
    labels = np.random.default_rng(0).permutation(TRAIN.answers).tolist()
    given = tfidf_logistic_regression(Examples(TRAIN.prompts, tuple(labels)), TRAIN.prompts[:3])
    assert given is not None
    assert set(given) <= {"card", "parcel", "thanks"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three? Four.", "One. Two! Three?"),
        ("Only one", "Only one"),
        ("A title\n\nFirst. Second. Third.", "A title First. Second."),
        ("Version 2.7 is old. So is 3.4. Yes. No.", "Version 2.7 is old. So is 3.4. Yes."),
        ("", ""),
    ],
)
def test_the_first_three_sentences(text: str, expected: str) -> None:
    assert lead(text) == expected


def test_which_task_has_which() -> None:
    prompts = ["where is my card", "One. Two. Three. Four."]
    assert set(baseline_answers("text-classification", TRAIN, prompts)) == {MAJORITY, TFIDF}
    assert set(baseline_answers("text-generation", TRAIN, prompts)) == {MAJORITY}
    assert baseline_answers("summarization", Examples((), ()), prompts) == {LEAD: ["where is my card", "One. Two. Three."], COPY: prompts}
    assert baseline_answers("text-classification", Examples((), ()), prompts) == {}, "nothing to learn from"


def test_many_training_rows_are_drawn_at_random(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every ninth row would be of one label here."""
    prompts, answers = TRAIN.sample(7, seed=0)
    assert len(set(answers)) > 1
    assert all(TRAIN.answers[TRAIN.prompts.index(prompt)] == answer for prompt, answer in zip(prompts, answers, strict=True))
    assert TRAIN.sample(7, seed=0) == (prompts, answers)
    assert TRAIN.sample(60, seed=0) == (list(TRAIN.prompts), list(TRAIN.answers))
    monkeypatch.setattr("tunesmith.evaluate.baselines.MOST_TRAINING_ROWS", 7)
    assert tfidf_logistic_regression(TRAIN, ["thanks a lot!"]) is not None
