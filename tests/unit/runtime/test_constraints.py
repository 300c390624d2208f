"""Answers are held to a grammar: random models, whatever they would rather say, write what fits, alone, in batches and piece by piece."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
import torch
from jsonschema import validate
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tiny_encoders import tiny_encoder_decoder
from tiny_models import tiny_model, tiny_tokenizer
from tunesmith.data.answer_grammar import schema_grammar
from tunesmith.data.task_file import TaskRecord
from tunesmith.data.templates import Template
from tunesmith.errors import ModelError, UsageError
from tunesmith.runtime.constraints import Constraint, rule_out
from tunesmith.runtime.sequence_runtime import SequenceRuntime
from tunesmith.runtime.torch_runtime import TorchRuntime

SLOT = {
    "type": "object",
    "properties": {"slot": {"enum": ["city", "time"]}, "value": {"type": "string", "maxLength": 5}, "sure": {"type": "boolean"}},
    "required": ["slot", "value"],
    "additionalProperties": False,
}
SCHEMA = {"type": "array", "maxItems": 2, "items": SLOT}
TASK = TaskRecord("extraction", schema=SCHEMA)
TEMPLATE = Template(kind="text", text="{text}\n{json}", answer_column="json", stop_tokens=("<|im_end|>",))
PROMPTS = ["a row", "another row", "the train to the city leaves at seven", "x", "a row", "what?"]


def runtime(task: TaskRecord = TASK, family: str = "llama", template: Template = TEMPLATE) -> TorchRuntime:
    return TorchRuntime(tiny_model(family), tiny_tokenizer(), template, task)


@pytest.mark.parametrize("family", ["gemma3", "gpt2", "qwen2"])
def test_answers_fit_the_schema_of_the_task(family: str) -> None:
    for answer in runtime(family=family).generate(PROMPTS[:3], max_new_tokens=100):
        if answer.stopped:
            validate(json.loads(answer.text), SCHEMA)


@pytest.mark.parametrize("settings", [{}, {"temperature": 1.0, "seed": 5}, {"temperature": 1.5, "top_p": 0.9, "seed": 6}])
def test_answers_alone_are_those_in_a_batch_and_those_of_a_stream(settings: dict[str, Any]) -> None:
    model = runtime()
    batch = model.generate(PROMPTS[:4], max_new_tokens=100, **settings)
    assert batch == model.generate(PROMPTS[:4], max_new_tokens=100, batch_size=1, **settings)
    assert [answer.text for answer in batch] == ["".join(model.stream(prompt, max_new_tokens=100, **settings)) for prompt in PROMPTS[:4]]
    finished = [answer for answer in batch if answer.stopped]
    assert finished
    for answer in finished:
        validate(json.loads(answer.text), SCHEMA)


def test_an_answer_that_is_cut_is_not_called_finished() -> None:
    text = runtime().with_schema({"type": "string", "minLength": 20})
    answer = text.generate(["x"], max_new_tokens=5)[0]
    assert (answer.stopped, answer.num_tokens) == (False, 5)


def test_an_answer_ends_where_the_schema_leaves_nothing_to_say() -> None:
    """No stop token is needed; where more could follow (a longer number), the model says when."""
    answer = runtime().with_schema({"const": [1, 2]}).generate(["x"], max_new_tokens=100)[0]
    assert json.loads(answer.text) == [1, 2]
    assert answer.stopped
    number = runtime().with_schema({"type": "integer"})
    follower = Constraint(schema_grammar({"type": "integer"}), number.tokenizer, {2}).follow()
    assert not follower.allowed(400)[2]
    follower.take(number.tokenizer.convert_tokens_to_ids("7"))
    assert follower.allowed(400)[2]
    assert not follower.is_complete


def test_a_stop_that_is_no_end_of_text_token_may_come_when_the_json_is_whole() -> None:
    template = Template(kind="text", text="{text}\n{json}", answer_column="json", stop_tokens=("<|im_start|>",))
    follower = runtime(TaskRecord("extraction", schema={"type": "integer"}), template=template)._constraint().follow()  # type: ignore[union-attr]
    tokenizer = tiny_tokenizer()
    stop = tokenizer.convert_tokens_to_ids("<|im_start|>")
    assert not follower.allowed(384)[stop]
    follower.take(tokenizer.convert_tokens_to_ids("7"))
    assert follower.allowed(384)[stop]


def test_free_answers_and_other_schemas() -> None:
    plain = runtime(TaskRecord())
    assert runtime().with_schema(None).generate(PROMPTS, max_new_tokens=20) == plain.generate(PROMPTS, max_new_tokens=20)
    assert runtime().with_schema(None).task.schema == SCHEMA, "what is measured stays"
    yes_or_no = plain.with_schema({"enum": ["yes", "no"]}).generate(PROMPTS)
    assert {json.loads(answer.text) for answer in yes_or_no} <= {"yes", "no"}
    assert plain.answer_grammar is None, "the runtime that was asked is as it was"


def test_several_labels_are_known_ones() -> None:
    labels = ("apple", "bread", "cheese")
    answers = runtime(TaskRecord("text-classification", labels=labels, multi_label=True)).generate(PROMPTS, temperature=1.0, seed=1)
    found = [json.loads(answer.text) for answer in answers]
    assert all(set(some) <= set(labels) and some == sorted(set(some)) for some in found)
    assert len({tuple(some) for some in found}) > 1


@pytest.mark.parametrize("family", ["bart", "t5"])
@pytest.mark.parametrize("settings", [{}, {"temperature": 1.0, "seed": 5}])
def test_encoder_decoders(family: str, settings: dict[str, Any]) -> None:
    model = SequenceRuntime(tiny_encoder_decoder(family), tiny_tokenizer(), TEMPLATE, TASK)
    answers = model.generate(PROMPTS[:3], max_new_tokens=80, **settings)
    for answer in answers:
        if answer.stopped:
            validate(json.loads(answer.text), SCHEMA)
    constant = model.with_schema({"const": {"a": 1}}).generate(PROMPTS[:3], **settings)
    assert [json.loads(answer.text) for answer in constant] == [{"a": 1}] * 3
    assert all(answer.stopped for answer in constant)


@pytest.mark.parametrize("settings", [{}, {"temperature": 1.0, "seed": 5}])
def test_an_encoder_decoder_with_settings_of_its_own(settings: dict[str, Any]) -> None:
    """BART's summarizers force their first and last token and a least length."""
    bart = tiny_encoder_decoder("bart")
    tokenizer = tiny_tokenizer()
    bart.generation_config.update(forced_bos_token_id=tokenizer.bos_token_id, forced_eos_token_id=tokenizer.eos_token_id, min_length=40)
    model = SequenceRuntime(bart, tokenizer, TEMPLATE, TASK)
    constant = model.with_schema({"const": {"a": 1}}).generate(PROMPTS[:2], **settings)
    assert [json.loads(answer.text) for answer in constant] == [{"a": 1}] * 2
    cut = model.with_schema({"type": "string", "minLength": 50}).generate(PROMPTS[:2], max_new_tokens=12, **settings)
    assert all(answer.text.startswith('"') for answer in cut)


def without_braces() -> PreTrainedTokenizerFast:
    vocabulary = {"</s>": 0, "<unk>": 1, **{character: number for number, character in enumerate("abcdefghij", 2)}}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>", unk_token="<unk>")


def metaspace() -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.Unigram([("<unk>", 0.0), ("</s>", 0.0), ("▁", -1.0), *((chr(n), -2.0) for n in range(33, 127))], unk_id=0))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>", unk_token="<unk>")


@pytest.mark.parametrize("tokenizer", [without_braces(), metaspace()], ids=["no braces", "an unknown kind"])
def test_tokens_that_cannot_be_held(tokenizer: PreTrainedTokenizerFast, caplog: pytest.LogCaptureFixture) -> None:
    """Asked for: an error. By the task alone: said, and answered freely, since training on it was fine."""
    model = TorchRuntime(tiny_model("llama"), tokenizer, TEMPLATE, TASK)
    with pytest.raises(UsageError, match=r"tokenizer .*PreTrainedTokenizerFast|tokenizer \(TokenizersBackend"):
        model.with_schema(SCHEMA).generate(["a"], max_new_tokens=3)
    with caplog.at_level(logging.WARNING):
        assert model.generate(["a"], max_new_tokens=3)
    assert "Answers are not held to the schema of the task" in caplog.text


def test_a_vocabulary_of_more_logits_than_tokens_and_one_that_has_no_token_left() -> None:
    tokenizer = tiny_tokenizer()
    constraint = Constraint(schema_grammar({"const": "a"}), tokenizer, {2})
    held = rule_out(torch.zeros(2, len(tokenizer) + 40), [constraint.follow(), None])
    assert held[0, len(tokenizer) :].max() == float("-inf")
    assert held[1].min() == 0
    with pytest.raises(ModelError, match=r"can't keep to its schema.*no token"):
        constraint.follow().allowed(4)
    with pytest.raises(ModelError, match="can't keep to its schema"):
        constraint.follow().take(tokenizer.convert_tokens_to_ids("7"))
