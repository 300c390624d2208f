"""Certificates of models that write no text, and of encoder-decoders: harmless passes, harm is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from exported_heads import LABELS, TEXTS, save_headed, save_sequence
from tunesmith.export.certificate import Certificate, certify
from tunesmith.export.stages import Stage
from tunesmith.runtime.load import load

PAIRED = [
    {"text1": first, "text2": second, "label": number % 2}
    for number, (first, second) in enumerate((one, other) for one in TEXTS for other in TEXTS)
]


def stages(folder: Path, harm: Callable[[Any], object] | None, name: str = "quantized") -> list[Stage]:
    def harmed() -> Any:
        runtime: Any = load(folder, dtype="float32", device="cpu")
        with torch.no_grad():
            if harm is not None:
                harm(runtime.model)
        return runtime

    return [Stage("tuned", lambda: load(folder, dtype="float32", device="cpu")), Stage(name, harmed)]


def shuffled(model: Any) -> None:
    """Every weight of the encoder's first matrix in another place."""
    weight = next(parameter for parameter in model.parameters() if parameter.dim() == 2 and parameter.shape[0] == parameter.shape[1])
    weight.copy_(weight.flip(0) * 3)


def scaled(model: Any) -> None:
    next(parameter for parameter in model.parameters() if parameter.dim() == 2 and parameter.shape[0] == parameter.shape[1]).mul_(1.5)


def as_it_says(folder: Path, texts: list[str]) -> list[dict[str, Any]]:
    """Rows whose right label is what the model says, so that it has something to lose."""
    answers = load(folder, dtype="float32", device="cpu").generate(texts)
    return [{"text": text, "label": answer.text} for text, answer in zip(texts, answers, strict=True)]


def words_of(found: Certificate) -> str:
    return "\n".join(found.failures)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_headed("bert", "text-classification", tmp_path_factory.mktemp("classifier") / "model")


def test_labels_are_compared(classifier: Path) -> None:
    rows = as_it_says(classifier, [f"{text} {number}" for number in range(8) for text in TEXTS])
    found = certify(stages(classifier, None), rows)
    assert found.passed
    scores = found.stages[1]
    assert (scores.top1_agreement, scores.max_logit_distance, scores.metrics["accuracy"]) == (1, 0, 1)
    assert scores.perplexity is None
    assert scores.num_positions == len(rows)
    assert len(LABELS) == 4
    harmed = certify(stages(classifier, shuffled), rows)
    assert "quantized: accuracy" in words_of(harmed)
    assert harmed.stages[1].top1_agreement < 1


def test_a_merged_head_is_exact(classifier: Path) -> None:
    found = certify(stages(classifier, scaled, "merged"), [], max_rows=5)
    assert "merged: its logits differ from the tuned model's by up to" in words_of(found)
    assert "paragraphs of the standard library" in found.rows


def test_tags_are_compared(tmp_path: Path) -> None:
    folder = save_headed("bert", "token-classification", tmp_path / "model")
    found = certify(stages(folder, shuffled, "onnx-fp32"), [], max_rows=5)
    assert "onnx-fp32: the likeliest label is the tuned model's at" in words_of(found)
    assert found.stages[1].num_positions > 100  # one a token


def test_cosines_are_compared(tmp_path: Path) -> None:
    folder = save_headed("bert", "similarity", tmp_path / "model")
    same = certify(stages(folder, None, "merged"), PAIRED)
    assert same.passed
    assert same.stages[1].top1_agreement is None
    assert same.stages[1].metrics["threshold_accuracy"] == same.stages[0].metrics["threshold_accuracy"]
    assert "merged: its numbers differ" in words_of(certify(stages(folder, shuffled, "merged"), PAIRED))


def test_an_encoder_decoder_is_compared_by_its_likelihoods(tmp_path: Path) -> None:
    folder = save_sequence("t5", tmp_path / "model")
    rows = [{"document": text, "summary": text[:12]} for text in TEXTS]
    same = certify(stages(folder, None, "onnx-fp32"), rows)
    assert same.passed
    assert any("reads prompt and answer apart" in words for words in same.words)
    assert same.stages[1].perplexity == pytest.approx(same.stages[0].perplexity)
    assert "onnx-fp32: its numbers differ" in words_of(certify(stages(folder, scaled, "onnx-fp32"), rows))
