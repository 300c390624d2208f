"""Conversations turn by turn: several answers, templates that rewrite earlier turns, tools, systems that a template refuses."""

from __future__ import annotations

from typing import Any

import pytest
from datasets import Dataset
from tokenizers_at_hand import TOKENIZERS

from tiny_models import tiny_tokenizer
from tunesmith.data.chat_templates import CHAT_TEMPLATES
from tunesmith.data.formats import recognize
from tunesmith.data.templates import Template, choose_template
from tunesmith.data.tokenize import encode_examples
from tunesmith.errors import DataError

# As Qwen 3 does: earlier turns lose their reasoning, the last one has it, and asking for an answer may forbid it.
THINKS = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['role'] == 'assistant' and loop.last %}<think>\n{{ m.reasoning_content or '' }}\n</think>\n\n{% endif %}"
    "{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
NO_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}<|im_end|>{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
)


def talk(*contents: str, system: str | None = None) -> dict[str, Any]:
    turns = [{"role": "user" if index % 2 == 0 else "assistant", "content": content} for index, content in enumerate(contents)]
    return {"messages": ([{"role": "system", "content": system}] if system else []) + turns}


def template_for(row: dict[str, Any], tokenizer: Any, jinja: str | None = None, **options: Any) -> Template:
    return choose_template(recognize(Dataset.from_list([row])), list(row), tokenizer, chat_template=jinja, **options)


def learnt(template: Template, row: dict[str, Any], tokenizer: Any) -> list[list[str]]:
    return [[part.text for part in parts if part.supervised] for parts in template.examples(row, tokenizer)]


def test_every_answer_of_a_conversation_is_learnt_once() -> None:
    tokenizer, row = tiny_tokenizer(), talk("a", "b", "c", "d", "e")
    assert learnt(template_for(row, tokenizer), row, tokenizer) == [["b<|im_end|>", "d<|im_end|>"]]


@pytest.mark.parametrize("tokenizer_name", [name for name in TOKENIZERS if name != "base model"])
@pytest.mark.parametrize("jinja", [None, *CHAT_TEMPLATES])
def test_each_answer_stands_behind_the_ids_that_inference_feeds(jinja: str | None, tokenizer_name: str) -> None:
    tokenizer = TOKENIZERS[tokenizer_name]()
    row = talk("the cat", "sat on", "one\n\n", " two three ", "why", "123", system="be kind")
    template = template_for(row, tokenizer, jinja)
    fed = []
    for ids, labels in encode_examples(template.examples(row, tokenizer), tokenizer):
        fed += [ids[:start] for start in range(1, len(ids)) if labels[start] != -100 and labels[start - 1] == -100]
    assert fed == [template.encode_prompt(row["messages"][:turns], tokenizer) for turns in (2, 4, 6)]


def test_special_tokens_of_another_model_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    template_for(talk("a", "b"), tiny_tokenizer(), "llama3")
    assert "<|start_header_id|>, <|end_header_id|>, <|eot_id|>, which this model's tokenizer reads as ordinary text" in caplog.text


def test_a_template_that_rewrites_earlier_turns_teaches_each_answer_in_its_own_context() -> None:
    tokenizer, row = tiny_tokenizer(), talk("a", "b", "c", "d")
    template = template_for(row, tokenizer, THINKS)
    examples = template.examples(row, tokenizer)
    assert learnt(template, row, tokenizer) == [["b<|im_end|>"], ["d<|im_end|>"]]
    assert examples[0][0].text == template.prompt(row["messages"][:1], tokenizer)
    assert examples[1][0].text == template.prompt(row["messages"][:3], tokenizer)
    assert template.prompt("a", tokenizer).endswith("<think>\n\n</think>\n\n")


def test_answers_with_their_reasoning_keep_it() -> None:
    tokenizer, row = tiny_tokenizer(), talk("a", "b")
    row["messages"][1]["reasoning_content"] = "because"
    template = template_for(row, tokenizer, THINKS, rows=[row])
    assert template.prompt("a", tokenizer).endswith("<|im_start|>assistant\n")
    assert learnt(template, row, tokenizer) == [["<think>\nbecause\n</think>\n\nb<|im_end|>"]]


def test_a_system_message_goes_into_the_users_turn_where_the_template_takes_none() -> None:
    tokenizer, row = tiny_tokenizer(), talk("a", "b", system="be kind")
    template = template_for(row, tokenizer, NO_SYSTEM)
    assert template.prompt(row["messages"][:2], tokenizer) == "[user]be kind\n\na<|im_end|>[assistant]"


def test_a_refused_conversation_gives_the_templates_reason() -> None:
    tokenizer, row = tiny_tokenizer(), talk("a", "b")
    template = template_for(row, tokenizer, NO_SYSTEM)
    with pytest.raises(DataError, match="refuses a conversation of system: System role not supported"):
        template.prompt([{"role": "system", "content": "x"}], tokenizer)


def test_tool_calls_are_written_out_where_the_template_knows_none() -> None:
    tokenizer = tiny_tokenizer()
    call = {"type": "function", "function": {"name": "add", "arguments": {"x": 1}}}
    row = {
        "messages": [
            {"role": "user", "content": "1+1"},
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "content": "2"},
            {"role": "assistant", "content": "two"},
        ],
        "tools": [{"type": "function", "function": {"name": "add"}}],
    }
    template = template_for(row, tokenizer)
    written = '<tool_call>\n{"name": "add", "arguments": {"x": 1}}\n</tool_call><|im_end|>'
    assert learnt(template, row, tokenizer) == [[written, "two<|im_end|>"]]
    prompt = template.prompt(row, tokenizer)
    assert '<tools>\n{"type": "function", "function": {"name": "add"}}\n</tools>' in prompt
    assert "user\n<tool_response>\n2\n</tool_response><|im_end|>" in prompt


def test_tools_go_to_a_template_that_knows_them() -> None:
    tokenizer = tiny_tokenizer()
    jinja = "{% for t in tools or [] %}T:{{ t.function.name }}{% endfor %}{% for m in messages %}{{ m.content }}{% endfor %}"
    row = {**talk("a", "b"), "tools": [{"type": "function", "function": {"name": "add"}}]}
    assert template_for(row, tokenizer, jinja).prompt(row, tokenizer).startswith("T:adda")


def test_answers_of_weight_zero_are_context() -> None:
    tokenizer, row = tiny_tokenizer(), talk("a", "b", "c", "d")
    row["messages"][1]["weight"] = 0
    assert learnt(template_for(row, tokenizer), row, tokenizer) == [["d<|im_end|>"]]


def test_contents_in_parts_are_joined_and_pictures_refused() -> None:
    tokenizer, row = tiny_tokenizer(), talk("a", "b")
    template = template_for(row, tokenizer)
    row["messages"][0]["content"] = [{"type": "text", "text": "x"}, {"type": "text", "text": "y"}]
    assert "user\nxy<|im_end|>" in template.prompt(row, tokenizer)
    row["messages"][0]["content"] = [{"type": "image", "url": "z"}]
    with pytest.raises(DataError, match="a message holds image; only text"):
        template.examples(row, tokenizer)


@pytest.mark.parametrize("row", [talk("a"), talk("a", ""), {"messages": []}], ids=["no answer", "empty answer", "no messages"])
def test_conversations_without_an_answer_teach_nothing(row: dict[str, Any]) -> None:
    tokenizer = tiny_tokenizer()
    assert template_for(talk("a", "b"), tokenizer).examples(row, tokenizer) == []
