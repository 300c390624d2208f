"""``Modelfile``: the prompts that its template gives are those of the chat template, and Ollama is told where answers stop."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tiny_models import BOS, CHAT_TEMPLATE, EOS, START, tiny_tokenizer
from tunesmith.data.chat_templates import CHAT_TEMPLATES
from tunesmith.data.templates import Template
from tunesmith.export.ollama import go_template, go_text, modelfile_text, read_turns, write_modelfile

TALK = [
    {"role": "user", "content": "How many\nlegs?"},
    {"role": "assistant", "content": "Eight."},
    {"role": "user", "content": "Sure?"},
]
SMOLLM = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou help.<|im_end|>\n' }}"
    "{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.mark.parametrize("name", [name for name in CHAT_TEMPLATES if name not in ("gemma", "mistral")])
def test_turns_are_those_of_the_chat_template(name: str) -> None:
    tokenizer = tiny_tokenizer()
    turns = read_turns(CHAT_TEMPLATES[name], tokenizer)
    assert turns is not None
    template = Template(kind="chat", chat_template=CHAT_TEMPLATES[name])
    for talk in (TALK, TALK[:1], [{"role": "system", "content": "Be brief."}, *TALK]):
        assert turns.render(talk) == template.prompt(talk, tokenizer)


def test_default_system_message_gives_way_to_a_given_one() -> None:
    turns = read_turns(SMOLLM, tiny_tokenizer())
    assert turns is not None
    assert turns.go_template() == (
        "{{ if .System }}<|im_start|>system\n{{ .System }}<|im_end|>\n{{ else }}<|im_start|>system\nYou help.<|im_end|>\n{{ end }}"
        '{{ range .Messages }}{{ if eq .Role "user" }}<|im_start|>user\n{{ .Content }}<|im_end|>\n'
        '{{ else if eq .Role "assistant" }}<|im_start|>assistant\n{{ .Content }}<|im_end|>\n{{ end }}{{ end }}<|im_start|>assistant\n'
    )


COUNTS = "{{ messages|length }}{% for m in messages %}{{ m['content'] }}{% endfor %}"


def test_system_message_without_a_turn_is_said(caplog: pytest.LogCaptureFixture) -> None:
    for name in ("gemma", "mistral"):
        turns = read_turns(CHAT_TEMPLATES[name], tiny_tokenizer())
        assert turns is not None
        assert turns.render(TALK) == Template(kind="chat", chat_template=CHAT_TEMPLATES[name]).prompt(TALK, tiny_tokenizer())
        caplog.clear()
        go_template(Template(kind="chat", chat_template=CHAT_TEMPLATES[name]), tiny_tokenizer())
        assert "no turn of its own for system messages" in caplog.text


@pytest.mark.parametrize("jinja", [COUNTS, "{{ bos_token }}"])
def test_template_that_does_more_is_not_guessed(jinja: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        write_modelfile(tmp_path, tiny_tokenizer(), Template(kind="chat", chat_template=jinja, stop_tokens=(EOS,)))
    assert "can't be written as Ollama's" in caplog.text
    assert "TEMPLATE" not in (tmp_path / "Modelfile").read_text(encoding="utf-8")


def test_bos_is_written_once() -> None:
    jinja = "{{ bos_token }}" + CHAT_TEMPLATE
    for adds_bos, expected in ((True, ""), (False, BOS)):
        turns = read_turns(jinja, tiny_tokenizer(adds_bos=adds_bos))
        assert turns is not None
        assert turns.unasked == expected


def test_text_template(tmp_path: Path) -> None:
    template = Template(kind="text", text='Say "{text}" {{now}} \n{label}' + START, stop_tokens=(START,), answer_column="label")
    write_modelfile(tmp_path, tiny_tokenizer(), template)
    assert (tmp_path / "Modelfile").read_text(encoding="utf-8") == (
        'FROM ./model.gguf\nTEMPLATE """Say "{{ .Prompt }}" {now} \n"""\n'
        f'PARAMETER stop "{START}"\nPARAMETER stop "{EOS}"\nPARAMETER temperature 0\n'
    )


def test_several_columns_take_whole_prompts() -> None:
    assert go_template(Template(kind="text", text="{a}{b}{c}", answer_column="c"), tiny_tokenizer()) == "{{ .Prompt }}"
    assert go_template(None, tiny_tokenizer(chat_template=None)) == "{{ .Prompt }}"


def test_signs_that_mean_something() -> None:
    assert go_text('{{x}} """') == '{{ "{{" }}x}} {{ "\\"\\"\\"" }}'
    assert modelfile_text("a") == '"a"'
    assert modelfile_text('a "b"') == '"""a "b"{{ "" }}"""'


def test_stop_text_with_quotes_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        write_modelfile(tmp_path, tiny_tokenizer(), Template(kind="text", text='{a}="{b}"', stop_tokens=('"',), answer_column="b"))
    assert "can't hold the stop text" in caplog.text
