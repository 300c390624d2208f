"""BLEU, chrF and ROUGE are those of their libraries, with several references too; exact match and word F1 are SQuAD's."""

from __future__ import annotations

import collections
import re
import string

import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer

from tunesmith.metrics import load_metric

PREDICTIONS = ["The cat sat on a mat.", "A train leaves at seven in the morning", "", "no idea"]
SINGLE = [["The cat sat on the mat."], ["The train to the city leaves at seven in the morning."], ["Nothing here"], ["none at all"]]
SEVERAL = [[*SINGLE[0], "A cat was sitting on the mat."], SINGLE[1], [*SINGLE[2], "x", "y"], ["no idea whatsoever", "none at all"]]


@pytest.mark.parametrize(("name", "corpus"), [("bleu", sacrebleu.corpus_bleu), ("chrf", sacrebleu.corpus_chrf)])
def test_sacrebleu(name: str, corpus) -> None:
    metric = load_metric(name)
    plain = [[references[0] for references in SINGLE]]
    assert metric.compute(PREDICTIONS, SINGLE) == {name: pytest.approx(corpus(PREDICTIONS, plain).score)}
    columns = [[references[place] if place < len(references) else None for references in SEVERAL] for place in range(3)]
    several = metric.compute(PREDICTIONS, SEVERAL)[name]
    assert several == pytest.approx(corpus(PREDICTIONS, columns).score)
    assert several != metric.compute(PREDICTIONS, SINGLE)[name]


@pytest.mark.parametrize("name", ["bleu", "chrf"])
def test_rows_alone(name: str) -> None:
    scores = load_metric(name).per_row(["a b c d e", "x"], [["a b c d e"], ["a b c d e"]])
    assert scores[0] == pytest.approx(100)
    assert scores[1] < 10


def test_a_signature_says_how_it_was_made() -> None:
    assert load_metric("bleu").signature(SINGLE).startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert load_metric("bleu").signature(SEVERAL).startswith("nrefs:var|")
    assert load_metric("chrf").signature(SINGLE).startswith("nrefs:1|case:mixed|eff:yes|nc:6|nw:0|")


def test_rouge_takes_the_best_reference() -> None:
    kinds = ["rouge1", "rouge2", "rougeL", "rougeLsum"]
    scorer = RougeScorer(kinds)
    found = load_metric("rouge").compute(PREDICTIONS, SEVERAL)
    for kind in kinds:
        best = [
            max(scorer.score(right, text)[kind].fmeasure for right in references)
            for text, references in zip(PREDICTIONS, SEVERAL, strict=True)
        ]
        assert found[kind] == pytest.approx(sum(best) / 4)
        if kind == "rougeL":
            assert load_metric("rouge").per_row(PREDICTIONS, SEVERAL) == pytest.approx(best)


def test_exact_match() -> None:
    found = load_metric("exact_match").compute(["Paris ", "the Paris!", "Rome"], [["London", "Paris"], ["Paris"], ["Paris"]])
    assert found == {"exact_match": pytest.approx(1 / 3), "exact_match_normalized": pytest.approx(2 / 3)}


def squad_f1(prediction: str, truth: str) -> float:
    """The function of SQuAD's evaluation script (https://rajpurkar.github.io/SQuAD-explorer/, evaluate-v1.1.py)."""

    def normalize(text: str) -> list[str]:
        text = "".join(char for char in text.lower() if char not in set(string.punctuation))
        return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split()).split()

    ours, theirs = normalize(prediction), normalize(truth)
    num_same = sum((collections.Counter(ours) & collections.Counter(theirs)).values())
    if num_same == 0:
        return 0
    precision, recall = num_same / len(ours), num_same / len(theirs)
    return 2 * precision * recall / (precision + recall)


def test_token_f1_is_that_of_squad() -> None:
    expected = [max(squad_f1(text, right) for right in references) for text, references in zip(PREDICTIONS, SEVERAL, strict=True)]
    assert load_metric("token_f1").per_row(PREDICTIONS, SEVERAL) == pytest.approx(expected)
    assert load_metric("token_f1").compute(PREDICTIONS, SEVERAL)["token_f1"] == pytest.approx(sum(expected) / 4)
    assert load_metric("token_f1").per_row(["the", "x"], [["a"], ["the"]]) == [1, 0]
