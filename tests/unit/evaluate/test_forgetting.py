"""The probe: the same texts for both models, perplexity as transformers computes it, and words that follow the ratio."""

from __future__ import annotations

import math

import pytest
import torch

from tiny_models import tiny_model, tiny_tokenizer
from tunesmith.data.templates import Template
from tunesmith.evaluate.forgetting import QUESTIONS, ScoredText, compare, documentation, make_probe, mean_loss, perplexities
from tunesmith.runtime.torch_runtime import TorchRuntime

TEMPLATE = Template(kind="text", text="{text} {label}", answer_column="label")


@pytest.fixture(scope="module")
def base() -> TorchRuntime:
    return TorchRuntime(tiny_model("llama"), tiny_tokenizer(), TEMPLATE)


def test_the_loss_is_that_of_transformers() -> None:
    model = tiny_model("llama")
    ids = torch.arange(5, 45)
    reference = model(input_ids=ids[None], labels=ids[None]).loss
    assert mean_loss(model, [ScoredText(tuple(ids.tolist()), 1)]) == pytest.approx(float(reference), rel=1e-5)
    labels = ids.clone()
    labels[:10] = -100
    reference = model(input_ids=ids[None], labels=labels[None]).loss
    assert mean_loss(model, [ScoredText(tuple(ids.tolist()), 10)]) == pytest.approx(float(reference), rel=1e-5)


def test_texts_of_different_length_count_by_their_tokens() -> None:
    model = tiny_model("llama")
    texts = [ScoredText(tuple(range(5, 30)), 1), ScoredText(tuple(range(40, 45)), 2)]
    each = [mean_loss(model, [text]) for text in texts]
    assert mean_loss(model, texts) == pytest.approx((24 * each[0] + 3 * each[1]) / 27)


def test_a_model_in_training_stays_in_training() -> None:
    model = tiny_model("llama").train()
    mean_loss(model, [ScoredText((5, 6, 7), 1)])
    assert model.training


def test_documentation_is_prose_and_always_the_same() -> None:
    paragraphs = documentation()
    assert paragraphs == documentation()
    assert len(paragraphs) > 40
    assert all(text.endswith(".") or len(text) == 900 for text in paragraphs)
    assert not any(">>>" in text for text in paragraphs)


def test_the_probe_is_small_and_has_both_kinds(base: TorchRuntime) -> None:
    probe = make_probe(base)
    assert set(probe.texts) == {"documentation", "chat"}
    assert 500 < sum(len(text.ids) for text in probe.texts["documentation"]) <= 1500
    assert 1 <= len(probe.texts["chat"]) <= len(QUESTIONS)
    assert all(0 < text.num_given < len(text.ids) for texts in probe.texts.values() for text in texts)
    assert base.template == TEMPLATE, "asking for chat answers leaves the runtime as it was"


def test_the_base_does_not_forget_itself_and_noise_does(base: TorchRuntime) -> None:
    probe = make_probe(base)
    before = perplexities(base, probe)
    assert compare(before, perplexities(base, probe))["ratio"] == pytest.approx(1.0)
    other = tiny_model("llama")
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.5)
    after = perplexities(TorchRuntime(other, tiny_tokenizer(), TEMPLATE), probe)
    assert compare(before, after)["ratio"] > 1.5


def test_without_a_chat_template_questions_are_continued() -> None:
    plain = TorchRuntime(tiny_model("gpt2"), tiny_tokenizer(chat_template=None), TEMPLATE)
    assert "chat" in make_probe(plain).texts


@pytest.mark.parametrize(
    ("after", "said"), [(10.2, "Nothing is forgotten"), (12.0, "It forgets a little"), (30.0, "It forgets much"), (math.exp(50), "much")]
)
def test_words(after: float, said: str) -> None:
    found = compare({"documentation": 10.0, "chat": 2.0}, {"documentation": after, "chat": 2.0})
    assert said in found["words"]
    assert "documentation) 10.0 before" in found["words"]
    assert found["ratio"] == after / 10
    assert found["chat"] == {"base": 2.0, "tuned": 2.0}


def test_a_kind_that_is_missing_is_left_out() -> None:
    assert set(compare({"chat": 2.0}, {"chat": 2.0, "documentation": 1.0})) == {"chat", "ratio", "words"}
