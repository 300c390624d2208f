"""Calibration, spans, JSON, similarity, likelihood, and functions of one's own."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import seqeval.metrics
import sklearn.metrics

from tunesmith.errors import UsageError
from tunesmith.metrics import METRICS, load_metric
from tunesmith.metrics.calibration import Calibration, expected_calibration_error
from tunesmith.metrics.extraction import Extraction
from tunesmith.metrics.similarity import ThresholdAccuracy, best_threshold


def test_every_name_is_a_metric() -> None:
    for name in METRICS.names():
        metric = load_metric(name)
        assert metric.name == name
        assert metric.needs in ("text", "choices", "probabilities", "spans", "scores", "likelihood")


def test_an_unknown_name_names_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"unknown metric 'acuracy'.*Did you mean 'accuracy'\?"):
        load_metric("acuracy")


# Calibration


def test_calibration_error_is_that_of_guo() -> None:
    """Equation 3, bin by bin; a value on an edge belongs to the bin below it."""
    generator = np.random.default_rng(0)
    confidence = np.append(generator.uniform(0.2, 1, 500), [0.2, 1 / 3, 1.0, 0.0])
    right = generator.uniform(size=504) < confidence * 0.8
    total = 0.0
    for place in range(15):
        inside = (confidence > place / 15) & (confidence <= (place + 1) / 15) | ((place == 0) & (confidence == 0))
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert expected_calibration_error(confidence, right) == pytest.approx(total)


def test_calibration_of_labels() -> None:
    predictions = [{"a": 0.7, "b": 0.2, "c": 0.1}, {"a": 0.1, "b": 0.5, "c": 0.4}]
    found = Calibration().compute(predictions, [["a"], ["c"]])
    brier = [(0.3**2 + 0.2**2 + 0.1**2), (0.1**2 + 0.5**2 + 0.6**2)]
    assert found["brier"] == pytest.approx(sum(brier) / 2)
    expected = sklearn.metrics.brier_score_loss(["a", "c"], [[0.7, 0.2, 0.1], [0.1, 0.5, 0.4]], labels=["a", "b", "c"], scale_by_half=False)
    assert found["brier"] == pytest.approx(expected)
    assert found["ece"] == pytest.approx((0.3 + 0.5) / 2)
    assert Calibration().per_row(predictions, [["a"], ["c"]]) == pytest.approx([-value for value in brier])
    assert not Calibration.greater_is_better


def test_a_label_that_the_model_does_not_know_has_no_probability() -> None:
    assert Calibration().per_row([{"a": 1.0}], [["z"]]) == [-2.0]


def test_calibration_of_several_labels_at_once() -> None:
    found = Calibration(multi_label=True).compute([{"a": 0.9, "b": 0.4}], [["a", "b"]])
    assert found["brier"] == pytest.approx((0.1**2 + 0.6**2) / 2)
    assert found["ece"] == pytest.approx((0.1 + 0.6) / 2)


# Spans


def test_spans_are_those_of_seqeval() -> None:
    right = [["B-per", "I-per", "O", "B-loc"], ["O", "O"], ["B-org", "B-org"]]
    found = [["B-per", "I-per", "O", "O"], ["B-loc", "O"], ["B-org", "I-org"]]
    scores = load_metric("span_f1").compute(found, right)
    for name, function in (
        ("f1", seqeval.metrics.f1_score),
        ("precision", seqeval.metrics.precision_score),
        ("recall", seqeval.metrics.recall_score),
    ):
        assert scores[f"span_{name}"] == pytest.approx(function(right, found))
    assert scores["span_f1[per]"] == 1
    assert scores["span_f1[loc]"] == 0
    assert load_metric("span_f1").per_row([*found, ["O"]], [*right, ["O"]]) == [pytest.approx(2 / 3), 0, 0, 1]


def test_nothing_to_find_and_nothing_found() -> None:
    assert load_metric("span_f1").compute([["O"]], [["O"]])["span_f1"] == 1


# JSON


SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def test_fields_of_json() -> None:
    answers = ['{"city": "Rome", "date": "May"}', '{"city": "Oslo"}', "Rome", '{"city": 5}']
    right = ['{"date": "May", "city": "Rome"}', '{"city": "Rome", "date": "May"}', '{"city": "Rome"}', '{"city": 5.0}']
    found = Extraction(SCHEMA).compute(answers, [[text] for text in right])
    assert (found["json_valid"], found["schema_valid"], found["json_exact_match"]) == (0.75, 0.5, 0.5)
    # found: city Rome, date May, city Oslo, city 5; wanted: these but Oslo, and city Rome, date May, city Rome
    assert found["field_precision"] == pytest.approx(3 / 4)
    assert found["field_recall"] == pytest.approx(3 / 6)
    assert found["field_f1"] == pytest.approx(2 * 3 / 10)
    assert (found["field_precision[date]"], found["field_recall[date]"]) == (1, 0.5)
    assert Extraction().per_row(answers, [[text] for text in right]) == pytest.approx([1, 0, 0, 1])


def test_lists_are_bags_and_paths_are_named() -> None:
    one = {"slots": [{"name": "a"}, {"name": "b"}]}
    other = {"slots": [{"name": "b"}, {"name": "a"}, {"name": "a"}]}
    found = Extraction().compute([json.dumps(one)], [[json.dumps(other)]])
    assert found["field_f1[slots.name]"] == pytest.approx(2 * 2 / 5)
    assert "schema_valid" not in found


def test_a_name_and_a_value_are_a_field() -> None:
    """As snips' slots are written: a right value under the wrong name is wrong."""
    right = [{"slot": "city", "value": "Rome"}, {"slot": "date", "value": "May"}]
    found = [{"slot": "date", "value": "Rome"}, {"value": "May", "slot": "date"}]
    scores = Extraction().compute([json.dumps(found)], [[json.dumps(right)]])
    assert (scores["field_f1[city]"], scores["field_precision[date]"], scores["field_recall[date]"], scores["field_f1"]) == (0, 0.5, 1, 0.5)


def test_of_several_references_the_best_counts() -> None:
    assert Extraction().per_row(['{"a": 1}'], [['{"a": 2}', '{"a": 1}']]) == [1]


@pytest.mark.parametrize(
    ("schema", "references", "words"), [({}, ["no json"], "a reference is no JSON"), ({"type": 5}, ["{}"], "is no JSON schema")]
)
def test_what_extraction_refuses(schema: dict, references: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Extraction(schema).compute(["{}"], [references])


# Similarity


def test_scores_of_pairs() -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, 60)
    scores = (generator.normal(size=60) + labels).tolist()
    references = [[int(label)] for label in labels]
    assert load_metric("spearman").compute(scores, references)["spearman"] == pytest.approx(scipy.stats.spearmanr(scores, labels).statistic)
    assert load_metric("auc").compute(scores, references)["auc"] == pytest.approx(sklearn.metrics.roc_auc_score(labels, scores))
    found = ThresholdAccuracy(0.5).compute(scores, references)
    assert found["threshold_accuracy"] == pytest.approx(sklearn.metrics.accuracy_score(labels, np.array(scores) >= 0.5))


def test_the_best_threshold_is_found() -> None:
    for labels in itertools.product([False, True], repeat=5):
        scores = [0.1, 0.1, 0.5, 0.7, 0.7]
        threshold = best_threshold(scores, labels)
        counts = [sum((score >= cut) == label for score, label in zip(scores, labels, strict=True)) for cut in (threshold, 0, 0.3, 0.6, 1)]
        assert counts[0] == max(counts)


@pytest.mark.parametrize(
    ("name", "references", "words"),
    [("auc", [[0.5], [1]], "needs labels 0 and 1"), ("auc", [[1], [1]], "same label"), ("spearman", [["yes"], ["no"]], "must be a number")],
)
def test_what_similarity_refuses(name: str, references: list, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        load_metric(name).compute([0.1, 0.2], references)


def test_equal_scores_have_no_order() -> None:
    assert load_metric("spearman").compute([0.5, 0.5], [[0], [1]]) == {"spearman": 0}


# Likelihood


@dataclass(frozen=True)
class Scored:
    log_prob: float
    num_tokens: int


def test_perplexity_is_over_tokens() -> None:
    metric = load_metric("perplexity")
    scored = [Scored(-2.0, 4), Scored(-6.0, 2), Scored(0.0, 0)]
    assert metric.compute(scored, [])["perplexity"] == pytest.approx(math.exp(8 / 6))
    assert metric.per_row(scored, []) == [-0.5, -3, 0]
    assert metric.compute([Scored(-math.inf, 1)], [])["perplexity"] == math.inf


# One's own


def own(folder: Path, body: str) -> str:
    file = folder / "costs.py"
    file.write_text(body)
    return f"{file}:cost"


def test_a_function_of_ones_own(tmp_path: Path) -> None:
    metric = load_metric(
        own(tmp_path, "def cost(p, r):\n    return sum(5 for a, b in zip(p, r) if a not in b)\ncost.greater_is_better = False")
    )
    assert metric.compute(("a", "b"), (("a",), ("c",))) == {"cost": 5.0}
    assert (metric.name, metric.headline, metric.greater_is_better, metric.needs, metric.per_row(["a"], [["a"]])) == (
        "cost",
        "cost",
        False,
        "text",
        None,
    )


def test_a_function_may_return_several_numbers(tmp_path: Path) -> None:
    found = load_metric(own(tmp_path, "def cost(p, r):\n    return {'euro': 2, 'hours': 3}")).compute(["a"], [["a"]])
    assert found == {"cost": 2.0, "cost.hours": 3.0} | {"cost.euro": 2.0}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("def cost(p, r):\n    return 'much'", "returned text: 'much'"),
        ("def cost(p, r):\n    pass", "returned nothing"),
        ("def cost(p, r):\n    return [1]", "returned list"),
        ("def cost(p, r):\n    return float('nan')", "nan"),
        ("def cost(p, r):\n    return {}", "no number"),
        ("def cost(p, r):\n    return 1 / 0", "raised ZeroDivisionError: division by zero"),
        ("def cost(p):\n    return 1", "raised TypeError"),
    ],
)
def test_a_broken_function(tmp_path: Path, body: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        load_metric(own(tmp_path, body)).compute(["a"], [["a"]])


@pytest.mark.parametrize(
    ("body", "name", "words"),
    [
        ("x = ", "cost", "can't be run: SyntaxError"),
        ("def costs(): ...", "cost", "no function 'cost'; it has: costs. Did you mean 'costs'"),
        ("", "", "names a file but no function"),
    ],
)
def test_a_broken_file(tmp_path: Path, body: str, name: str, words: str) -> None:
    file = tmp_path / "costs.py"
    file.write_text(body)
    with pytest.raises(UsageError, match=words):
        load_metric(f"{file}:{name}" if name else str(file))


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(UsageError, match=r"there is no file nowhere\.py"):
        load_metric("nowhere.py:cost")
