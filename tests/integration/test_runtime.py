"""The real sample model through the runtime: it answers, stops by itself, and says what transformers' own loop says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tunesmith.errors import DataError
from tunesmith.runtime.chat import ChatSession
from tunesmith.runtime.load import load
from tunesmith.runtime.torch_runtime import TorchRuntime

pytestmark = pytest.mark.integration

QUESTIONS = [
    "What is the capital of France?",
    "Name three colors.",
    "Write one sentence about a dog with an emoji 🐶.",
    "Translate 'water' to Chinese.",
]


@pytest.fixture(scope="module")
def runtime(sample_model: Path) -> TorchRuntime:
    loaded = load(sample_model, dtype="float32", device="cpu")
    assert isinstance(loaded, TorchRuntime)
    return loaded


def test_it_answers_and_stops_by_itself(runtime: TorchRuntime) -> None:
    answer = runtime.generate([QUESTIONS[0]], max_new_tokens=40)[0]
    assert "Paris" in answer.text
    assert answer.stopped
    assert "<|im_end|>" not in answer.text


def test_batch_single_stream_and_transformers_say_the_same(runtime: TorchRuntime) -> None:
    together = runtime.generate(QUESTIONS, max_new_tokens=20)
    for question, answer in zip(QUESTIONS, together, strict=True):
        assert runtime.generate([question], max_new_tokens=20) == [answer]
        pieces = list(runtime.stream(question, max_new_tokens=20))
        assert len(pieces) > 1
        assert "".join(pieces) == answer.text == greedy_by_transformers(runtime, question, 20)


def greedy_by_transformers(runtime: TorchRuntime, question: str, num_tokens: int) -> str:
    tokenizer = runtime.tokenizer
    rendered = tokenizer.apply_chat_template([{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True)
    inputs = tokenizer(rendered, add_special_tokens=False, return_tensors="pt")
    with torch.no_grad():
        output = runtime.model.generate(**inputs, max_new_tokens=num_tokens, do_sample=False, pad_token_id=tokenizer.pad_token_id)
    return str(tokenizer.decode(output[0, inputs.input_ids.shape[1] :], skip_special_tokens=True))


def test_real_prompts_of_many_lengths_are_answered_in_a_batch_as_alone(runtime: TorchRuntime, shared_data: Path) -> None:
    lines = (shared_data / "banking77" / "test.jsonl").read_text(encoding="utf-8").splitlines()
    prompts = [json.loads(line)["text"] for line in lines[::400]]
    together = runtime.generate(prompts, max_new_tokens=6)
    assert [runtime.generate([prompt], max_new_tokens=6)[0] for prompt in prompts] == together


def test_sampled_answers_belong_to_seed_and_prompt(runtime: TorchRuntime) -> None:
    settings = {"max_new_tokens": 6, "temperature": 1.0, "top_p": 0.95}
    first = runtime.generate(QUESTIONS, seed=1, **settings)  # type: ignore[arg-type]
    assert runtime.generate(QUESTIONS[::-1], seed=1, batch_size=1, **settings)[::-1] == first  # type: ignore[arg-type]
    assert runtime.generate(QUESTIONS, seed=2, **settings) != first  # type: ignore[arg-type]


def test_a_conversation_is_answered_as_a_whole(runtime: TorchRuntime) -> None:
    session = ChatSession(runtime, max_new_tokens=12)
    "".join(session.respond("The capital of France is Paris."))
    "".join(session.respond("What is the capital of France?"))
    assert len(session.messages) == 4
    assert runtime.generate([session.messages[:-1]], max_new_tokens=12)[0].text == session.messages[-1]["content"]


def test_a_prompt_beyond_the_context_is_refused_in_a_line(runtime: TorchRuntime) -> None:
    with pytest.raises(DataError, match=r"the prompt has .* tokens, but the model's context is 8192 tokens"):
        runtime.generate(["word " * 9000])
