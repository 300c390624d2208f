"""Log-likelihoods equal those of a plain forward pass of transformers, whatever the batch, the length and the window."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tiny_models import MAX_LENGTH, tiny_model, tiny_tokenizer
from tunesmith.data.templates import Template
from tunesmith.runtime import scoring
from tunesmith.runtime.torch_runtime import TorchRuntime

TEXT = Template(kind="text", text="Text: {text}\nLabel: {label}", answer_column="label", stop_tokens=("<|im_end|>",))
PLAIN = Template(kind="text", text="{text}", answer_column="text")
PAIRS = [("where is my card?", "lost"), ("a", "card arrival, and then some more words"), ("the train leaves " * 5, "x")]


def plain_score(model: Any, ids: list[int], first: int) -> tuple[float, int, bool]:
    """One row, one forward pass, no cache, no padding."""
    with torch.no_grad():
        log_probs = model(input_ids=torch.tensor([ids])).logits[0].double().log_softmax(-1)
    pairs = [(log_probs[place - 1], ids[place]) for place in range(first, len(ids))]
    return sum(float(row[token]) for row, token in pairs), len(pairs), all(int(row.argmax()) == token for row, token in pairs)


@pytest.mark.parametrize("family", ["llama", "gemma2", "gemma3", "gpt2"])
def test_pairs(family: str) -> None:
    model, tokenizer = tiny_model(family), tiny_tokenizer()
    runtime = TorchRuntime(model, tokenizer, TEXT)
    for (prompt, answer), found in zip(PAIRS, runtime.log_likelihoods(PAIRS), strict=True):
        before = tokenizer(f"Text: {prompt}\nLabel:").input_ids
        ids = tokenizer(f"Text: {prompt}\nLabel: {answer}<|im_end|>").input_ids
        log_prob, num_tokens, greedy = plain_score(model, ids, len(before))
        assert found.log_prob == pytest.approx(log_prob, abs=1e-3)
        assert (found.num_tokens, found.greedy) == (num_tokens, greedy)


def test_a_greedy_answer_is_recognized() -> None:
    runtime = TorchRuntime(tiny_model("llama"), tiny_tokenizer(), PLAIN)
    said = runtime.generate(["Where is"], max_new_tokens=5)[0].text
    greedy, other = runtime.log_likelihoods([("Where is", said), ("Where is", " nothing at all")])
    if greedy.num_tokens == 5:  # the text of the answer has the tokens that were generated
        assert greedy.greedy
    assert not other.greedy
    assert greedy.log_prob / greedy.num_tokens > other.log_prob / other.num_tokens


def test_portions_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = TorchRuntime(tiny_model("llama"), tiny_tokenizer(), TEXT)
    whole = runtime.log_likelihoods(PAIRS)
    monkeypatch.setattr(scoring, "_MOST_LOGITS", 384 * 3 * 4)  # four columns at once
    for one, other in zip(whole, runtime.log_likelihoods(PAIRS), strict=True):
        assert other.log_prob == pytest.approx(one.log_prob, abs=1e-3)
        assert (other.num_tokens, other.greedy) == (one.num_tokens, one.greedy)


def test_perplexity_of_long_text_is_that_of_a_sliding_window() -> None:
    """The loop of https://huggingface.co/docs/transformers/perplexity, with a stride of half the context."""
    model, tokenizer = tiny_model("llama"), tiny_tokenizer()
    text = " ".join(f"the train number {number} leaves at {number % 24}" for number in range(80))
    found = TorchRuntime(model, tokenizer, PLAIN).log_likelihoods([("", text)])[0]
    ids = torch.tensor([tokenizer(text).input_ids])
    length, total, count, last_end = ids.shape[1], 0.0, 0, 0
    assert length > 3 * MAX_LENGTH
    for begin in range(0, length, MAX_LENGTH // 2):
        end = min(begin + MAX_LENGTH, length)
        targets = ids[:, begin:end].clone()
        targets[:, : -(end - last_end)] = -100
        num_scored = int((targets[:, 1:] != -100).sum())
        with torch.no_grad():
            total -= float(model(ids[:, begin:end], labels=targets).loss) * num_scored
        count, last_end = count + num_scored, end
        if end == length:
            break
    assert found.num_tokens == count == length - 1
    assert found.log_prob == pytest.approx(total, rel=1e-5)


def test_an_answer_behind_nothing() -> None:
    """The first token of a text can't be foreseen, so it isn't counted."""
    runtime = TorchRuntime(tiny_model("llama"), tiny_tokenizer(), PLAIN)
    one, text = runtime.log_likelihoods([("", "a"), ("", "a train")])
    assert (one.log_prob, one.num_tokens, one.greedy) == (0.0, 0, True)
    assert text.num_tokens >= 1
    assert text.log_prob < 0
