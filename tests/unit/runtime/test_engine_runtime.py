"""Runtimes around engines: with the same logits they answer as PyTorch's runtime does, whatever the engine keeps or takes at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from tiny_models import MAX_LENGTH, tiny_model, tiny_tokenizer
from tunesmith.data.task_file import TaskRecord
from tunesmith.data.templates import Template
from tunesmith.errors import DataError, UsageError
from tunesmith.evaluate.speed import model_size
from tunesmith.runtime.engine import common_length
from tunesmith.runtime.engine_runtime import EngineRuntime
from tunesmith.runtime.torch_runtime import TorchRuntime

TOKENIZER = tiny_tokenizer()
PLAIN = Template(kind="text", text="{text}", answer_column="text")
PROMPTS = ["The train", "Could you send me the report by Friday? ", "a", "Label: happy. Text: what", "Thank you very much"]
LABELS = ("happy", "sad", "angry and sad", "angry and happy now")
MODEL = tiny_model("llama")


class Rows:
    """A batch that is read anew for every token."""

    def __init__(self, engine: PlainEngine, rows: Sequence[Sequence[int]]) -> None:
        self.engine, self.rows = engine, [list(row) for row in rows]
        self.logits = self.computed()

    def computed(self) -> np.ndarray:
        return np.concatenate([self.engine.computed(row)[-1:] for row in self.rows])

    def advance(self, tokens: Sequence[int]) -> None:
        for row, token in zip(self.rows, tokens, strict=True):
            row.append(token)
        self.logits = self.computed()


class PlainEngine:
    """Reads every row as a whole; notes how many rows were read together."""

    size_bytes = 1234

    def __init__(self, *, most_rows: int = 4, stop_ids: Sequence[int] = (), context_length: int | None = MAX_LENGTH) -> None:
        self.most_rows, self.stop_ids, self.context_length = most_rows, frozenset(stop_ids), context_length
        self.opened: list[int] = []
        self.asked: list[int] = []

    def encode(self, text: str) -> list[int]:
        return list(TOKENIZER(text).input_ids)

    def computed(self, row: Sequence[int]) -> np.ndarray:
        with torch.no_grad():
            return MODEL(torch.tensor([list(row)])).logits[0].numpy()

    def read(self, tokens: Sequence[int], *, num_logits: int = 1, room: int = 0) -> np.ndarray:
        assert room >= 0
        self.asked.append(num_logits)
        return self.computed(tokens)[-num_logits:]

    def open(self, rows: Sequence[Sequence[int]], *, room: int) -> Rows:
        assert max(map(len, rows)) + room <= (self.context_length or 10**9)
        self.opened.append(len(rows))
        return Rows(self, rows)


def pair(
    template: Template = PLAIN, task: TaskRecord | None = None, engine: PlainEngine | None = None
) -> tuple[EngineRuntime, TorchRuntime]:
    """The same model twice: behind an engine, and in PyTorch."""
    return EngineRuntime(engine or PlainEngine(), TOKENIZER, template, task), TorchRuntime(MODEL, TOKENIZER, template, task)


@pytest.mark.parametrize("most_rows", [1, 2, 16])
@pytest.mark.parametrize("sampling", [{}, {"temperature": 0.9, "top_p": 0.8, "seed": 4}], ids=["greedy", "sampled"])
def test_answers_are_those_of_torch(most_rows: int, sampling: dict[str, float]) -> None:
    engine = PlainEngine(most_rows=most_rows)
    ours, torchs = pair(engine=engine)
    expected = torchs.generate(PROMPTS, max_new_tokens=24, **sampling)
    assert ours.generate(PROMPTS, max_new_tokens=24, **sampling) == expected
    assert engine.opened == {1: [], 2: [2, 2], 16: [5]}[most_rows]
    assert [ours.generate([prompt], max_new_tokens=24, **sampling)[0] for prompt in PROMPTS] == expected
    assert ["".join(ours.stream(prompt, max_new_tokens=24, **sampling)) for prompt in PROMPTS] == [answer.text for answer in expected]


def test_the_size_of_a_batch_can_be_told() -> None:
    engine = PlainEngine(most_rows=16)
    pair(engine=engine)[0].generate(PROMPTS, max_new_tokens=4, batch_size=3)
    assert engine.opened == [3, 2]
    with pytest.raises(UsageError, match="batch_size is 0"):
        pair()[0].generate(PROMPTS, batch_size=0)


def test_rows_whose_padding_would_take_their_room_are_answered_alone() -> None:
    engine = PlainEngine(most_rows=16)
    ours, torchs = pair(engine=engine)
    prompts = ["a", "b" * (MAX_LENGTH - 10)]
    assert ours.generate(prompts, max_new_tokens=30) == torchs.generate(prompts, max_new_tokens=30)
    assert engine.opened == []


def test_what_the_engines_files_stop_at_ends_an_answer() -> None:
    first = int(PlainEngine().computed(TOKENIZER("The train").input_ids)[-1].argmax())
    stopped = pair(engine=PlainEngine(stop_ids=[first]))[0].generate(["The train"], max_new_tokens=8)[0]
    assert (stopped.text, stopped.stopped, stopped.num_tokens) == ("", True, 1)
    assert not pair()[0].generate(["The train"], max_new_tokens=8)[0].stopped


def test_a_stop_text_and_what_follows_are_never_shown() -> None:
    whole = pair()[0].generate(["The train"], max_new_tokens=24)[0].text
    template = Template(kind="text", text="{text}", answer_column="text", stop_tokens=(whole[5:8],))
    ours, torchs = pair(template)
    assert ours.generate(["The train"], max_new_tokens=24) == torchs.generate(["The train"], max_new_tokens=24)
    assert "".join(ours.stream("The train", max_new_tokens=24)) == whole[: whole.index(whole[5:8])]


@pytest.mark.parametrize("probabilities", [True, False])
def test_the_likeliest_label_is_that_of_torch(probabilities: bool) -> None:
    ours, torchs = pair(task=TaskRecord("text-classification", labels=LABELS, temperature=3.0))
    found, expected = (runtime.choose(PROMPTS, probabilities=probabilities) for runtime in (ours, torchs))
    assert [choice.labels for choice in found] == [choice.labels for choice in expected]
    if probabilities:
        for one, other in zip(found, expected, strict=True):
            assert one.probabilities == pytest.approx(other.probabilities, abs=1e-5)
    assert ours.generate(PROMPTS) == torchs.generate(PROMPTS)


def test_likelihoods_are_those_of_torch_in_windows_too(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [*((prompt, "yes it is") for prompt in PROMPTS), ("a", " b" * (2 * MAX_LENGTH))]
    ours, torchs = pair()
    monkeypatch.setattr("tunesmith.runtime.engine_runtime._MOST_LOGITS", 100 * len(TOKENIZER))
    for one, other in zip(ours.log_likelihoods(pairs), torchs.log_likelihoods(pairs), strict=True):
        assert one.log_prob == pytest.approx(other.log_prob, rel=1e-5)
        assert (one.num_tokens, one.greedy) == (other.num_tokens, other.greedy)
    engine = ours._engine
    assert isinstance(engine, PlainEngine)
    assert max(engine.asked) == 100


def test_logits_of_tokens_are_those_of_torch() -> None:
    ours, torchs = pair()
    rows = [ours.token_ids(prompt) for prompt in PROMPTS]
    for one, other in zip(ours.token_logits(rows), torchs.token_logits(rows), strict=True):
        assert np.array_equal(one, other)
    with pytest.raises(DataError, match="row 1 of the token ids is empty"):
        next(ours.token_logits([[]]))


def test_answers_can_be_held_to_a_schema() -> None:
    schema = {"type": "object", "properties": {"a": {"enum": ["x", "y"]}}, "required": ["a"], "additionalProperties": False}
    ours, torchs = (runtime.with_schema(schema) for runtime in pair())
    answers = ours.generate(PROMPTS, max_new_tokens=60)
    assert answers == torchs.generate(PROMPTS, max_new_tokens=60)
    assert all(answer.stopped for answer in answers)


@pytest.mark.parametrize(
    ("prompt", "words"), [("", "the prompt is empty"), ("b" * 400, "tokens, but the model's context is 256 tokens. Shorten it")]
)
def test_prompts_that_no_engine_is_given(prompt: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        pair()[0].generate([prompt])
    with pytest.raises(DataError, match=words):
        next(pair()[0].stream(prompt))


def test_another_template_around_the_same_engine() -> None:
    ours = pair()[0]
    chat = Template(kind="chat", chat_template=str(TOKENIZER.chat_template), stop_tokens=("<|im_end|>",))
    other = ours.with_template(chat)
    assert other.task == TaskRecord(chat.task)
    assert other.generate(["a"], max_new_tokens=6) == pair(chat)[1].generate(["a"], max_new_tokens=6)
    assert model_size(other) == {"size_bytes": 1234.0}


def test_common_beginnings() -> None:
    assert [common_length([1, 2], row) for row in ([1, 2, 3], [1, 3], [1], [4, 2])] == [2, 1, 1, 0]
