"""Templates: what is chosen, what is fed, what is learnt, and that training and inference see the same ids."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from tokenizers_at_hand import TOKENIZERS

from tiny_models import tiny_tokenizer
from tunesmith.data.formats import recognize
from tunesmith.data.templates import Template, choose_template
from tunesmith.data.tokenize import encode_examples
from tunesmith.errors import DataError, UsageError

ROWS: dict[str, dict[str, Any]] = {
    "messages": {
        "messages": [
            {"role": "system", "content": "be kind"},
            {"role": "user", "content": "the cat"},
            {"role": "assistant", "content": "sat"},
        ]
    },
    "sharegpt": {"conversations": [{"from": "human", "value": "the cat"}, {"from": "gpt", "value": "sat"}]},
    "alpaca": {"instruction": "Say it", "input": "the cat", "output": "sat"},
    "prompt-completion": {"prompt": "the cat ", "completion": "sat"},
    "question-answer": {"question": "the cat?", "answer": "sat"},
    "document-summary": {"document": "the cat sat", "summary": "sat"},
    "text-label": {"text": "the cat", "label": 12},
    "input-output": {"input": "the cat", "output": " sat on"},
    "mr-ref": {"mr": "name[cat]", "ref": "sat"},
}
TEXTS = {
    "blank before the answer": "### Question: {q} \n### Answer: {a}",
    "two blanks": "{q}  {a}",
    "no border": "{q}{a}",
    "line breaks": "{q}\n\n{a}",
    "chat tokens": r"<|im_start|>user\n{q}<|im_end|>\n<|im_start|>assistant\n{a}<|im_end|>",
    "text behind the answer": "{q} -> {a} END",
    "text behind the stop token": "{q}: {a}<|im_end|>\n",
    "braces": '{{"q": "{q}", "a": "{a}"}}',
}
ANSWERS = ["yes", " yes", "\nyes", "123", "s", "'s"]


def supervised_from(row: dict[str, Any]) -> int:
    return next(index for index, label in enumerate(row["labels"]) if label != -100)


def only_example(row: dict[str, Any], template: Template, tokenizer: Any) -> dict[str, Any]:
    ((ids, labels),) = encode_examples(template.examples(row, tokenizer), tokenizer)
    return {"input_ids": ids, "labels": labels}


@pytest.mark.parametrize("tokenizer_name", TOKENIZERS)
@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("use_chat_template", [None, False])
def test_inference_feeds_the_ids_that_training_saw_formats(name: str, tokenizer_name: str, use_chat_template: bool | None) -> None:
    tokenizer, row = TOKENIZERS[tokenizer_name](), ROWS[name]
    template = choose_template(recognize(Dataset.from_list([row])), list(row), tokenizer, use_chat_template=use_chat_template)
    example = only_example(row, template, tokenizer)
    prompt = template.encode_prompt({key: value for key, value in row.items() if key != template.answer_column}, tokenizer)
    assert prompt == example["input_ids"][: supervised_from(example)]
    assert example["input_ids"][-1] == template.stop_token_ids(tokenizer)[0] == example["labels"][-1]


@pytest.mark.parametrize("tokenizer_name", TOKENIZERS)
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize("answer", ANSWERS)
def test_inference_feeds_the_ids_that_training_saw_text_templates(text: str, answer: str, tokenizer_name: str) -> None:
    tokenizer = TOKENIZERS[tokenizer_name]()
    template = choose_template(None, ["q", "a"], tokenizer, text_template=text)
    example = only_example({"q": "the cat", "a": answer}, template, tokenizer)
    assert template.encode_prompt("the cat", tokenizer) == example["input_ids"][: supervised_from(example)]
    assert example["input_ids"][-1] in template.stop_token_ids(tokenizer)
    decoded = tokenizer.decode(example["input_ids"][supervised_from(example) : -1])
    assert decoded.strip().startswith(answer.strip())


@pytest.mark.parametrize("kind", ["chat", "text"])
def test_bos_comes_exactly_once(kind: str) -> None:
    tokenizer = tiny_tokenizer(adds_bos=True)
    options: dict[str, Any] = {"text_template": "{text}: {label}"} if kind == "text" else {}
    row = {"text": "the cat", "label": "sat"}
    template = choose_template(recognize(Dataset.from_list([row])), list(row), tokenizer, **options)
    ids = only_example(row, template, tokenizer)["input_ids"]
    assert ids[0] == tokenizer.bos_token_id
    assert ids.count(tokenizer.bos_token_id) == 1


def test_a_template_that_writes_bos_itself_gets_no_second_one() -> None:
    tokenizer = tiny_tokenizer(adds_bos=True)
    template = choose_template(None, ["a", "b"], tokenizer, text_template=f"{tokenizer.bos_token}{{a}} {{b}}")
    assert template.encode_prompt("x", tokenizer).count(tokenizer.bos_token_id) == 1


def test_the_loss_is_on_the_answer_and_its_stop_token_alone() -> None:
    tokenizer = tiny_tokenizer()
    template = choose_template(None, ["q", "a"], tokenizer, text_template="Q: {q}\nA: {a}")
    assert template.segments({"q": "x", "a": "y"}, tokenizer)[1].text == " y<|im_end|>"
    example = only_example({"q": "x", "a": "y"}, template, tokenizer)
    learnt = [label for label in example["labels"] if label != -100]
    assert tokenizer.decode(learnt) == " y<|im_end|>"


def test_text_behind_the_stop_token_is_not_learnt() -> None:
    tokenizer = tiny_tokenizer()
    template = choose_template(None, ["q", "a"], tokenizer, text_template="{q}: {a}!<|im_end|>\n\n")
    assert [part.text for part in template.segments({"q": "x", "a": "y"}, tokenizer)] == ["x:", " y!<|im_end|>"]


def test_train_on_prompt_puts_the_loss_everywhere_but_on_the_first_token() -> None:
    tokenizer = tiny_tokenizer()
    template = choose_template(None, ["q", "a"], tokenizer, text_template="Q: {q}\nA: {a}", train_on_prompt=True)
    example = only_example({"q": "x", "a": "y"}, template, tokenizer)
    assert example["labels"] == [-100, *example["input_ids"][1:]]


def test_a_stop_token_of_the_template_wins_over_eos() -> None:
    tokenizer = tiny_tokenizer()
    template = choose_template(None, ["q", "a"], tokenizer, text_template="{q}: {a}<|endoftext|>")
    assert template.stop_tokens == ("<|endoftext|>",)
    assert template.stop_token_ids(tokenizer) == [tokenizer.pad_token_id, tokenizer.eos_token_id]


def test_plain_text_is_learnt_whole_and_a_prompt_is_its_beginning() -> None:
    tokenizer = tiny_tokenizer()
    template = choose_template(None, ["story"], tokenizer, text_field="story")
    example = only_example({"story": "once upon"}, template, tokenizer)
    assert example["labels"] == [-100, *example["input_ids"][1:]]
    assert template.prompt("once", tokenizer) == "once"
    assert template.prompt_columns == ()


def test_a_text_fills_the_only_placeholder_and_several_need_names() -> None:
    tokenizer = tiny_tokenizer()
    one = choose_template(None, ["a", "b"], tokenizer, text_template="<{a}> {b}")
    for value in ("x", {"a": "x"}, [{"role": "user", "content": "x"}]):
        assert one.prompt(value, tokenizer) == "<x>"
    two = choose_template(None, ["a", "b", "c"], tokenizer, text_template="{a} {b} {c}")
    assert two.prompt({"a": "x", "b": "y"}, tokenizer) == "x y"
    with pytest.raises(DataError, match=r'several columns \(a, b\).*\{"a": "…", "b": "…"\}'):
        two.prompt("x", tokenizer)
    with pytest.raises(DataError, match="no value for b"):
        two.prompt({"a": "x"}, tokenizer)


def test_a_text_becomes_the_users_turn_as_in_training() -> None:
    tokenizer = tiny_tokenizer()
    row = {"document": "long text", "summary": "short"}
    template = choose_template(recognize(Dataset.from_list([row])), list(row), tokenizer)
    assert template.prompt("long text", tokenizer) == template.prompt({"document": "long text"}, tokenizer)
    assert "Summarize:\n\nlong text<|im_end|>" in template.prompt("long text", tokenizer)


def test_a_chat_template_goes_on_with_a_conversation() -> None:
    tokenizer = tiny_tokenizer()
    template = choose_template(recognize(Dataset.from_list([ROWS["text-label"]])), ["text", "label"], tokenizer)
    history = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    assert template.prompt(history, tokenizer).endswith("assistant\nb<|im_end|>\n<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n")


@pytest.mark.parametrize("name", ROWS)
def test_templates_survive_a_manifest(name: str) -> None:
    tokenizer, row = tiny_tokenizer(), ROWS[name]
    template = choose_template(recognize(Dataset.from_list([row])), list(row), tokenizer)
    values = template.to_dict()
    assert Template.from_dict({**values, "written by a later version": 1}) == template
    assert Template.from_dict(values).encode_prompt("x", tokenizer) == template.encode_prompt("x", tokenizer)


def test_a_stored_template_of_an_unknown_kind() -> None:
    with pytest.raises(DataError, match="kind None; known: text, chat"):
        Template.from_dict({})


def test_answers_are_the_references() -> None:
    tokenizer = tiny_tokenizer()
    template = choose_template(recognize(Dataset.from_list([ROWS["mr-ref"]])), ["mr", "ref"], tokenizer)
    assert template.answers({"mr": "x", "ref": "a"}) == ["a"]
    assert template.answers({"mr": "x", "refs": ["a", "b"]}) == ["a", "b"]
    chat = choose_template(recognize(Dataset.from_list([ROWS["messages"]])), ["messages"], tokenizer)
    assert chat.answers(ROWS["messages"]) == ["sat"]


def test_without_a_chat_template_formats_get_a_text_of_their_own() -> None:
    tokenizer = tiny_tokenizer(chat_template=None)
    template = choose_template(recognize(Dataset.from_list([{"long": "a", "short": "b"}])), ["long", "short"], tokenizer)
    assert (template.kind, template.text) == ("text", "{long}\n\nSummary: {short}")
    alpaca = choose_template(recognize(Dataset.from_list([ROWS["alpaca"]])), list(ROWS["alpaca"]), tokenizer)
    assert alpaca.prompt(ROWS["alpaca"], tokenizer) == "### Instruction:\nSay it\n\nthe cat\n\n### Response:\n"


def test_chat_templates_by_name_by_file_and_in_a_tokenizers_configuration(tmp_path: Path) -> None:
    form = recognize(Dataset.from_list([ROWS["text-label"]]))
    tokenizer = tiny_tokenizer()
    by_name = choose_template(form, ["text", "label"], tokenizer, chat_template="zephyr")
    assert by_name.prompt("x", tokenizer) == "<|user|>\nx<|im_end|>\n<|assistant|>\n"
    (tmp_path / "my.jinja").write_text("{% for m in messages %}[{{ m['content'] }}]{% endfor %}>\n")
    assert choose_template(form, ["text", "label"], tokenizer, chat_template=str(tmp_path / "my.jinja")).prompt("x", tokenizer) == "[x]>"
    (tmp_path / "tokenizer_config.json").write_text('{"chat_template": "{{ messages[0].content }}:"}')
    by_json = choose_template(form, ["text", "label"], tokenizer, chat_template=str(tmp_path / "tokenizer_config.json"))
    assert by_json.prompt("x", tokenizer) == "x:"


def test_of_several_chat_templates_the_default_one() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = {"tool_use": "T", "default": "D{{ messages[0].content }}"}
    form = recognize(Dataset.from_list([ROWS["text-label"]]))
    assert choose_template(form, ["text", "label"], tokenizer).prompt("x", tokenizer) == "Dx"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"text_template": "{text}", "text_field": "text"}, "both say what the text is"),
        ({"text_template": "{text} {label}", "use_chat_template": True}, "--use_chat_template has no effect with --text_template"),
        ({"text_field": "text", "chat_template": "chatml"}, "--chat_template has no effect with --text_field"),
        ({"use_chat_template": False, "chat_template": "chatml"}, "contradicts --no-use_chat_template"),
    ],
)
def test_options_that_contradict_each_other(options: dict[str, Any], words: str) -> None:
    form = recognize(Dataset.from_list([ROWS["text-label"]]))
    with pytest.raises(UsageError, match=words):
        choose_template(form, ["text", "label"], tiny_tokenizer(), **options)


def test_a_chat_template_is_asked_for_and_there_is_none() -> None:
    form = recognize(Dataset.from_list([ROWS["text-label"]]))
    with pytest.raises(UsageError, match=r"brings no chat template.*alpaca, chatml"):
        choose_template(form, ["text", "label"], tiny_tokenizer(chat_template=None), use_chat_template=True)
    with pytest.raises(UsageError, match="plain text have no turns"):
        choose_template(recognize(Dataset.from_list([{"text": "x"}])), ["text"], tiny_tokenizer(), use_chat_template=True)
    with pytest.raises(DataError, match=r"no chat template 'chatm'.*Did you mean 'chatml'\?"):
        choose_template(form, ["text", "label"], tiny_tokenizer(), chat_template="chatm")


def test_tokens_of_another_model_and_answers_in_the_prompt_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        choose_template(None, ["a", "b"], tiny_tokenizer(), text_template="<|eot_id|>{b} {a} {b}")
    assert "<|eot_id|>, which this model's tokenizer reads as ordinary text" in caplog.text
    assert "shows the answer, {b}, in the prompt" in caplog.text
