"""Choosing among labels equals scoring every label in full, with the tokens of training."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tiny_models import tiny_model, tiny_tokenizer
from tunesmith.data.task_file import TaskRecord
from tunesmith.data.templates import Template
from tunesmith.data.tokenize import IGNORE_INDEX, encode_examples
from tunesmith.errors import DataError, ModelError, UsageError
from tunesmith.runtime.choosing import LabelSearch
from tunesmith.runtime.label_tree import Node, label_tree
from tunesmith.runtime.torch_runtime import TorchRuntime

# some begin alike, one is the beginning of another, and one ends with a blank character that is no blank
LABELS = (
    "card arrival",
    "card",
    "card payment fee",
    "cash",
    "lost or stolen card",
    "lost or stolen phone",
    "top up",
    "top up by card",
    "happy",
)
PROMPTS = ["where is my card?", "the train leaves at noon", "a", "could you send me the report by Friday? Thank you!"]
TEXT = Template(kind="text", text="Text: {text}\nLabel: {label}", answer_column="label", stop_tokens=("<|im_end|>",))


def runtime_of(family: str, template: Template = TEXT, *, adds_bos: bool = False, **task: Any) -> TorchRuntime:
    tokenizer = tiny_tokenizer(adds_bos=adds_bos)
    record = TaskRecord("text-classification", labels=LABELS, **task)
    return TorchRuntime(tiny_model(family, seed=3), tokenizer, template, record)


def chat_template() -> Template:
    return Template(kind="chat", chat_template=str(tiny_tokenizer().chat_template), stop_tokens=("<|im_end|>",))


def brute_force(runtime: TorchRuntime, prompt: Any) -> list[float]:
    return [found.log_prob for found in runtime.log_likelihoods([(prompt, label) for label in LABELS])]


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma2", "gemma3", "gpt2"])
@pytest.mark.parametrize("kind", ["text", "chat"])
def test_the_likeliest_label_is_chosen(family: str, kind: str) -> None:
    runtime = runtime_of(family, TEXT if kind == "text" else chat_template())
    prompts = PROMPTS + [f"{'long ' * number}{number}" for number in range(12)]
    for prompt, choice in zip(prompts, runtime.choose(prompts), strict=True):
        scores = brute_force(runtime, prompt)
        best = max(range(len(LABELS)), key=lambda place: scores[place])
        assert choice.labels == (LABELS[best],)
        total = sum(map(math.exp, scores))
        assert choice.probabilities == pytest.approx([math.exp(score) / total for score in scores], abs=1e-3)
        assert sum(choice.probabilities) == pytest.approx(1)


def test_a_common_beginning_is_computed_once() -> None:
    """With it the same labels and probabilities come out."""
    runtime = runtime_of("llama")
    prompts = [f"{'the train leaves at seven in the morning ' * 3}{number}" for number in range(6)]
    assert runtime._shared_beginning(runtime._encode(prompts)) is not None
    for prompt, choice in zip(prompts, runtime.choose(prompts), strict=True):
        alone = runtime.choose([prompt])[0]
        assert choice.labels == alone.labels
        assert choice.probabilities == pytest.approx(alone.probabilities, abs=1e-4)


def test_a_temperature_flattens_the_probabilities() -> None:
    runtime = runtime_of("llama", temperature=3.0)
    scores = brute_force(runtime, PROMPTS[0])
    weights = [math.exp((score - max(scores)) / 3) for score in scores]
    assert runtime.choose(PROMPTS[:1])[0].probabilities == pytest.approx([weight / sum(weights) for weight in weights], abs=1e-3)


def test_a_model_of_labels_answers_with_one_of_them() -> None:
    runtime = runtime_of("llama")
    prompts = PROMPTS + [f"{'long ' * number}{number}" for number in range(20)]
    chosen = [choice.labels[0] for choice in runtime.choose(prompts)]
    assert [answer.text for answer in runtime.generate(prompts, max_new_tokens=3, batch_size=2)] == chosen
    assert list(runtime.stream(PROMPTS[0])) == chosen[:1]
    drawn = runtime.generate(PROMPTS[:1], max_new_tokens=3, temperature=1.0, seed=0)[0]
    assert drawn.num_tokens == 3


def test_only_a_part_is_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 200 labels of which few are likely, most are never looked at."""
    from tunesmith.runtime.decoding import BatchDecoder

    runtime = runtime_of("llama")
    runtime.model.lm_head.weight.data *= 40  # sharp distributions
    labels = [f"{first} {second}" for first in "abcdefghij" for second in (f"is the {number}" for number in range(20))]
    num_scored = 0
    plain = BatchDecoder.extend

    def counting(self: BatchDecoder, columns: Any) -> Any:
        nonlocal num_scored
        num_scored += len(columns)
        return plain(self, columns)

    monkeypatch.setattr(BatchDecoder, "extend", counting)
    choice = runtime.choose(["which?"], labels)[0]
    assert num_scored < 60
    with_probabilities, num_scored = num_scored, 0
    assert runtime._choices(["which?"], tuple(labels), most_unscored=1.0)[0].labels == choice.labels
    assert num_scored <= with_probabilities
    scores = [found.log_prob for found in runtime.log_likelihoods([("which?", label) for label in labels])]
    assert choice.labels == (labels[max(range(200), key=lambda place: scores[place])],)


def test_only_what_has_to_be_is_looked_into() -> None:
    a, b, c = (Node(tokens=(number, 9), labels=(number,)) for number in range(3))
    entries = [(-2.0, b), (-1.0, a), (-9.0, c)]
    assert LabelSearch(1.0, 1.0, list(entries)).take_wanted() == [(-1.0, a)]  # the label alone: the likeliest beginning first
    assert LabelSearch(1.0, 1e-3, list(entries)).take_wanted() == [(-1.0, a), (-2.0, b)]  # c holds less than 1/1000
    assert LabelSearch(1.0, 1.0, list(entries), {3: -1.5}).take_wanted() == [(-1.0, a)]  # b can't win any more
    assert LabelSearch(1.0, 1.0, list(entries), {3: -0.5}).take_wanted() == []


@pytest.mark.parametrize("adds_bos", [False, True])
@pytest.mark.parametrize("kind", ["text", "chat"])
def test_labels_have_the_tokens_of_training(kind: str, adds_bos: bool) -> None:
    template = TEXT if kind == "text" else chat_template()
    runtime = runtime_of("llama", template, adds_bos=adds_bos)
    for label in LABELS:
        segments = (
            template.segments({"text": PROMPTS[0], "label": label}, runtime.tokenizer)
            if kind == "text"
            else Template.from_dict(
                {**template.to_dict(), "format": "text-label", "columns": {"prompt": "text", "answer": "label"}}
            ).segments({"text": PROMPTS[0], "label": label}, runtime.tokenizer)
        )
        ids, labels = encode_examples([segments], runtime.tokenizer)[0]
        learnt = [number for number in labels if number != IGNORE_INDEX]
        tree = _tree(runtime, PROMPTS[0])
        assert tuple(learnt) in _leaves(tree)
        assert ids[: len(ids) - len(learnt)] == runtime.template.encode_prompt(PROMPTS[0], runtime.tokenizer)


def _tree(runtime: TorchRuntime, prompt: Any) -> Any:
    from tunesmith.runtime.label_tree import LabelTrees

    return LabelTrees(LABELS, runtime.template, runtime.tokenizer).behind(prompt)


def _leaves(node: Any) -> set[tuple[int, ...]]:
    own = {node.path + node.tokens} if node.complete else set()
    return own.union(*map(_leaves, node.children))


def test_the_tree_shares_beginnings() -> None:
    tree = label_tree([[1, 2, 3], [1, 2, 4, 5], [6], [1, 2]])
    first, second = tree.children
    assert (first.tokens, first.complete, first.labels) == ((1, 2), (3,), (3, 0, 1))
    assert [child.tokens for child in first.children] == [(3,), (4, 5)]
    assert (second.tokens, second.complete, second.children) == ((6,), (2,), [])
    assert (first.fed, first.children[1].fed, tree.depth) == ((1, 2), (1, 2, 4), 3)


def test_labels_without_an_end_may_begin_alike() -> None:
    open_ended = Template(kind="text", text="{text} {label}", answer_column="label")
    runtime = runtime_of("llama", open_ended)
    runtime.tokenizer.eos_token = None
    scores = brute_force(runtime, "my")
    assert runtime.choose(["my"])[0].labels == (LABELS[max(range(len(LABELS)), key=lambda place: scores[place])],)


@pytest.mark.parametrize(
    ("labels", "task", "words"),
    [
        ([], "text-classification", "there is no label to choose from"),
        (["a", " "], "text-classification", "a label is empty"),
        (None, "text-generation", "was trained for text-generation and knows no labels"),
    ],
)
def test_without_labels_nothing_is_chosen(labels: Any, task: str, words: str) -> None:
    runtime = TorchRuntime(tiny_model("llama"), tiny_tokenizer(), TEXT, TaskRecord(task))
    with pytest.raises(UsageError, match=words):
        runtime.choose(["a"], labels)


def test_what_is_not_a_number_chooses_nothing() -> None:
    runtime = runtime_of("llama")
    runtime.model.model.norm.weight.data[:] = float("nan")
    with pytest.raises(ModelError, match="not numbers"):
        runtime.choose(["a"])
    with pytest.raises(ModelError, match="not numbers"):
        runtime.log_likelihoods([("a", "b")])


def test_a_prompt_without_room_for_a_label_is_refused() -> None:
    with pytest.raises(DataError, match=r"prompt 2 with its longest label has \d+ tokens, but the model's context is 256"):
        runtime_of("llama").choose(["a", "0 " * 246])
