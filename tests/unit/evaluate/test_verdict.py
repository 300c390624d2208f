"""Planted gains are found, chance is not taken for one, and the words say what the numbers say."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tunesmith.errors import ModelError, ShapeError
from tunesmith.evaluate.baselines import MAJORITY, TFIDF
from tunesmith.evaluate.verdict import Names, Verdict, decide, read_verdict, with_forgetting, write_verdict


def hits(share: float, rows: int, seed: int) -> list[float]:
    """Right (1) or wrong (0) on each row, by chance."""
    return (np.random.default_rng(seed).random(rows) < share).astype(float).tolist()


def test_a_planted_gain_is_found_in_20_of_20() -> None:
    for seed in range(20):
        found = decide("accuracy", hits(0.2, 48, seed), hits(0.85, 48, 100 + seed), {MAJORITY: hits(0.2, 48, 200 + seed)}, seed=seed)
        assert found.outcome == "gain", seed


def test_a_planted_loss_is_found_in_20_of_20() -> None:
    for seed in range(20):
        assert decide("accuracy", hits(0.8, 100, seed), hits(0.4, 100, 100 + seed), seed=seed).outcome == "worse"


def test_chance_is_no_gain_in_20_of_20() -> None:
    """A model taught shuffled labels: it gives known labels at random, the base rambles and is never right."""
    for seed in range(20):
        random = np.random.default_rng(seed)
        labels, given = random.integers(0, 4, 100), random.integers(0, 4, 100)
        majority = (labels == 0).astype(float).tolist()
        found = decide("accuracy", [0.0] * 100, (labels == given).astype(float).tolist(), {MAJORITY: majority}, seed=seed)
        assert found.outcome == "no gain shown", seed
        assert "it learnt how answers look, not which one is right" in " ".join(found.words)


def test_equal_models_are_no_gain_in_20_of_20() -> None:
    """The same model twice, with the noise of a few answers that fall out otherwise."""
    for seed in range(20):
        random = np.random.default_rng(seed)
        base = hits(0.5, 100, 500 + seed)
        tuned = [1 - score if flip else score for score, flip in zip(base, random.random(100) < 0.05, strict=True)]
        assert decide("accuracy", base, tuned, seed=seed).outcome == "no gain shown", seed


def test_the_words_of_a_gain() -> None:
    base, tuned = [0.0] * 30 + [1.0] * 10, [1.0] * 36 + [0.0] * 4
    found = decide("accuracy", base, tuned, {MAJORITY: [1.0] * 10 + [0.0] * 30, TFIDF: [1.0] * 35 + [0.0] * 5})
    first, *more = found.words
    assert first.startswith("Gain: accuracy 25.0% with the base model, 90.0% with the tuned model, on the same 40 rows: +65.0 points (95% ")
    assert more == [
        "What costs nothing reaches: always the most frequent answer 25.0%; TF-IDF with logistic regression 87.5%.",
        "It is not shown to beat TF-IDF with logistic regression, so that may be all this task needs.",
    ]
    assert found.interval is not None
    assert found.interval[0] < found.difference < found.interval[1]


def test_too_few_rows_are_named() -> None:
    found = decide("exact_match", [0.0] * 5, [1.0] * 5)
    assert found.outcome == "no gain shown"
    assert found.words[1] == (
        "Of 5 rows 5 come out better and 0 worse, which chance alone does in 6% of cases (exact sign test): too few rows to show anything."
    )


def test_what_could_have_been_seen_is_said() -> None:
    found = decide("rougeL", hits(0.5, 60, 1), hits(0.5, 60, 2))
    assert found.outcome == "no gain shown"
    assert found.words[1].startswith("The interval includes 0. With these rows a difference below about 0.")


def test_a_base_that_cannot_do_the_task_is_replaced_by_the_most_frequent_answer() -> None:
    found = decide("accuracy", None, [1.0] * 40, {MAJORITY: [1.0] * 10 + [0.0] * 30})
    assert found.outcome == "gain"
    assert found.base is None
    assert found.difference == pytest.approx(0.75)
    assert "the base model can't do this task: +75.0 points against the most frequent answer" in found.words[0]
    assert decide("accuracy", None, [1.0] * 40).outcome == "no gain shown"


def test_names() -> None:
    found = decide("span_f1", [0.2] * 20, [0.6] * 20, names=Names("run A", "run B"))
    assert "span F1 0.200 with run A, 0.600 with run B" in found.words[0]


def test_no_rows() -> None:
    with pytest.raises(ShapeError):
        decide("accuracy", [], [])


def test_it_survives_the_file(tmp_path: Path) -> None:
    verdict = decide("accuracy", hits(0.2, 40, 1), hits(0.9, 40, 2), {MAJORITY: hits(0.2, 40, 3)})
    verdict = with_forgetting(verdict, {"ratio": float("nan"), "words": "Nothing is forgotten."})
    write_verdict(tmp_path, verdict)
    again = read_verdict(tmp_path)
    assert isinstance(again, Verdict)
    assert again.words == verdict.words
    assert again.words[-1] == "Nothing is forgotten."
    assert again.interval == verdict.interval
    assert again.against == verdict.against
    assert json.loads((tmp_path / "verdict.json").read_text())["forgetting"]["ratio"] is None
    assert read_verdict(tmp_path / "none") is None


@pytest.mark.parametrize("content", ["{", "[]", '{"outcome": "gain"}', '{"interval": 3}'])
def test_a_file_that_is_no_verdict(tmp_path: Path, content: str) -> None:
    (tmp_path / "verdict.json").write_text(content)
    with pytest.raises(ModelError, match=r"verdict\.json can't be read"):
        read_verdict(tmp_path)


def test_two_models_that_answer_alike() -> None:
    assert decide("threshold_accuracy", [1.0, 0.0] * 5, [1.0, 0.0] * 5).words[1] == "Not a single row comes out differently."
