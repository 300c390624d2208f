"""The real sample model on real data: labels chosen as if all were scored, several references, perplexity as transformers computes it."""

from __future__ import annotations

import json
import math
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import sacrebleu
import torch

from tunesmith.evaluate.evaluation import evaluate
from tunesmith.evaluate.untuned import suited
from tunesmith.runtime.load import load
from tunesmith.runtime.protocol import Runtime

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def runtime(sample_model: Path) -> Runtime:
    return load(sample_model, dtype="float32", device="cpu")


def rows_of(file: Path, number: int | None = None) -> list[dict[str, Any]]:
    with file.open() as lines:
        return [json.loads(line) for line in islice(lines, number)]


def test_the_chosen_of_77_labels_is_the_likeliest(runtime: Runtime, shared_data: Path) -> None:
    rows = rows_of(shared_data / "banking77" / "test.jsonl")
    labels = sorted({row["label"] for row in rows})
    assert len(labels) == 77
    asked = rows[::1200]
    model = suited(runtime, asked)
    for row, choice in zip(asked, model.choose([{"text": row["text"]} for row in asked], labels), strict=True):
        scores = [found.log_prob for found in model.log_likelihoods([({"text": row["text"]}, label) for label in labels])]
        assert choice.labels == (labels[max(range(77), key=lambda place: scores[place])],)
        top = max(scores)
        total = sum(math.exp(score - top) for score in scores)
        assert choice.probabilities == pytest.approx([math.exp(score - top) / total for score in scores], abs=1.5e-3)


def test_several_references(runtime: Runtime, shared_data: Path, tmp_path: Path) -> None:
    rows = rows_of(shared_data / "e2e_nlg" / "test.jsonl", 4)
    found = evaluate(runtime, rows, metrics=["bleu", "rouge"], max_new_tokens=24, predictions_file=tmp_path / "p.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    assert [line["references"] for line in lines] == [row["refs"] for row in rows]
    most = max(len(row["refs"]) for row in rows)
    columns = [[row["refs"][place] if place < len(row["refs"]) else None for row in rows] for place in range(most)]
    assert found.metrics["bleu"] == pytest.approx(sacrebleu.corpus_bleu([line["output"] for line in lines], columns).score)


def test_perplexity(runtime: Runtime, shared_data: Path) -> None:
    rows = rows_of(shared_data / "debian_packages" / "test.jsonl", 3)
    found = evaluate(runtime, rows, metrics=["perplexity"])
    asked, loss, count = suited(runtime, rows), 0.0, 0
    for row in rows:
        prompt, answer = asked.template.with_answer(row, asked.template.answers(row)[0], asked.tokenizer)
        before = asked.tokenizer(prompt, add_special_tokens=False).input_ids
        ids = torch.tensor([asked.tokenizer(prompt + answer, add_special_tokens=False).input_ids])
        labels = ids.clone()
        labels[:, : len(before)] = -100
        with torch.no_grad():
            number = ids.shape[1] - len(before)
            loss += float(runtime.model(ids, labels=labels).loss) * number  # type: ignore[attr-defined]
            count += number
    assert found.metrics["perplexity"] == pytest.approx(math.exp(loss / count), rel=1e-4)
