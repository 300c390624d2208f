"""Figures of labels are those of scikit-learn on all rows."""

from __future__ import annotations

import random

import pytest
import sklearn.metrics

from tunesmith.errors import UsageError
from tunesmith.metrics import load_metric

LABELS = ["cash", "card", "fee"]
random.seed(0)
RIGHT = random.choices(LABELS, weights=[6, 3, 1], k=200)
GUESSED = [label if random.random() < 0.7 else random.choice(LABELS) for label in RIGHT]
REFERENCES = [[label] for label in RIGHT]


def compute(name: str, predictions: list, references: list = REFERENCES) -> dict[str, float]:
    return load_metric(name).compute(predictions, references)


def test_accuracy() -> None:
    assert compute("accuracy", GUESSED) == {"accuracy": pytest.approx(sklearn.metrics.accuracy_score(RIGHT, GUESSED))}
    assert load_metric("accuracy").per_row(["a", " b", "c"], [["a"], ["b", "c"], ["d"]]) == [1, 1, 0]


def test_balanced_accuracy() -> None:
    expected = sklearn.metrics.balanced_accuracy_score(RIGHT, GUESSED)
    assert compute("balanced_accuracy", GUESSED)["balanced_accuracy"] == pytest.approx(expected)


@pytest.mark.parametrize("name", ["precision", "recall", "f1"])
def test_averages_over_labels(name: str) -> None:
    score = getattr(sklearn.metrics, f"{name}_score")
    found = compute(name, GUESSED)
    for average in ("macro", "micro", "weighted"):
        assert found[f"{name}_{average}"] == pytest.approx(score(RIGHT, GUESSED, average=average))
    each = score(RIGHT, GUESSED, average=None, labels=sorted(LABELS))
    assert [found[f"{name}[{label}]"] for label in sorted(LABELS)] == pytest.approx(each)
    assert load_metric(name).headline == f"{name}_macro"
    assert load_metric(name).per_row(GUESSED, REFERENCES) is None


def test_an_answer_outside_the_labels_is_a_miss_and_no_class() -> None:
    found = compute("f1", ["cash", "what?", "card"], [["cash"], ["card"], ["card"]])
    assert {name for name in found if "[" in name} == {"f1[card]", "f1[cash]"}
    assert found["f1_macro"] == pytest.approx((1 + 2 / 3) / 2)


def test_the_only_row_of_a_label_that_is_never_predicted() -> None:
    assert compute("precision", ["card"], [["cash"]]) == {
        "precision_macro": 0,
        "precision_micro": 0,
        "precision_weighted": 0,
        "precision[cash]": 0,
    }


SETS = [["cash"], ["cash", "card"], [], ["fee", "card"]]
GUESSED_SETS = [["cash"], ["cash"], ["fee"], ["card", "fee"]]


@pytest.mark.parametrize("nested", [False, True])
def test_several_labels_at_once(nested: bool) -> None:
    """Right labels are listed as they are, or as one tuple."""
    references = [[tuple(labels)] for labels in SETS] if nested else SETS
    right = [[int(label in labels) for label in sorted(LABELS)] for labels in SETS]
    guessed = [[int(label in labels) for label in sorted(LABELS)] for labels in GUESSED_SETS]
    assert compute("accuracy", GUESSED_SETS, references)["accuracy"] == sklearn.metrics.accuracy_score(right, guessed) == 0.5
    found = compute("f1", [tuple(labels) for labels in GUESSED_SETS], references)
    for average in ("macro", "micro", "weighted"):
        assert found[f"f1_{average}"] == pytest.approx(sklearn.metrics.f1_score(right, guessed, average=average, zero_division=0))


def test_sets_of_one_label_alone() -> None:
    found = compute("f1", [["a"], [], ["a"]], [["a"], ["a"], ["a"]])
    assert found == pytest.approx({"f1_macro": 0.8, "f1_micro": 0.8, "f1_weighted": 0.8, "f1[a]": 0.8})


def test_balance_of_several_labels_at_once_is_refused() -> None:
    with pytest.raises(UsageError, match="balanced_accuracy is not defined"):
        compute("balanced_accuracy", GUESSED_SETS, SETS)
