"""A conversation: what is remembered, what commands do, what happens when the context is full or an answer is broken off."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from tiny_models import tiny_tokenizer
from tunesmith.data.templates import PromptValue, Template
from tunesmith.errors import DataError, UsageError
from tunesmith.runtime.chat import ChatSession

TOKENIZER = tiny_tokenizer()
CHAT = Template(kind="chat", chat_template=TOKENIZER.chat_template, stop_tokens=("<|im_end|>",))
TEXT = Template(kind="text", text="Text: {text}\nLabel: {label}", answer_column="label", stop_tokens=("<|im_end|>",))


class Echo:
    """A runtime that answers with the number of its calls, and keeps what it was asked."""

    kind = "echo"
    tokenizer = TOKENIZER

    def __init__(self, template: Template = CHAT, context_length: int | None = None) -> None:
        self.template, self.context_length = template, context_length
        self.prompts: list[PromptValue] = []
        self.settings: dict[str, Any] = {}
        self.error: Exception | None = None

    def stream(self, prompt: PromptValue, **settings: Any) -> Iterator[str]:
        self.prompts.append(prompt)
        self.settings = settings
        if self.error:
            raise self.error
        yield from ("answer ", str(len(self.prompts)))

    def generate(self, prompts: Any, **settings: Any) -> Any:
        raise NotImplementedError


def said(session: ChatSession, line: str) -> str:
    return "".join(session.respond(line))


def test_history_goes_into_the_next_prompt() -> None:
    runtime = Echo()
    session = ChatSession(runtime, system_prompt="Be brief.")
    assert [said(session, "one"), said(session, " two \n")] == ["answer 1", "answer 2"]
    assert runtime.prompts[1] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "answer 1"},
        {"role": "user", "content": "two"},
    ]
    assert session.messages[-1] == {"role": "assistant", "content": "answer 2"}


def test_the_first_turn_alone_is_put_into_words_by_the_template() -> None:
    runtime = Echo()
    said(ChatSession(runtime), "one")
    assert runtime.prompts == ["one"]


def test_settings_reach_the_runtime() -> None:
    runtime = Echo()
    said(ChatSession(runtime, max_new_tokens=7, temperature=0.5, top_p=0.9, seed=3), "one")
    assert runtime.settings == {"max_new_tokens": 7, "temperature": 0.5, "top_p": 0.9, "seed": 3}


def test_reset_forgets_all_but_the_system_prompt() -> None:
    session = ChatSession(Echo(), system_prompt="Be brief.")
    said(session, "one")
    assert "forgotten" in said(session, "/reset")
    assert session.messages == [{"role": "system", "content": "Be brief."}]


def test_quit_and_help_and_what_is_no_command() -> None:
    runtime = Echo()
    session = ChatSession(runtime)
    assert "/reset" in said(session, "/help")
    assert "no command /rest" in said(session, "/rest please")
    assert said(session, "   ") == ""
    assert not session.finished
    assert said(session, "/QUIT") == ""
    assert session.finished
    assert not runtime.prompts


def test_the_oldest_exchanges_are_forgotten_when_the_context_is_full(caplog: pytest.LogCaptureFixture) -> None:
    runtime = Echo(context_length=120)
    session = ChatSession(runtime, system_prompt="Be brief.", max_new_tokens=20)
    with caplog.at_level(logging.INFO):
        for number in range(6):
            said(session, f"question {number}")
    assert session.messages[0]["role"] == "system"
    assert session.messages[1]["role"] == "user"
    assert session.messages[1]["content"] != "question 0"
    assert session.messages[-2]["content"] == "question 5"
    assert len(CHAT.encode_prompt(session.messages[:-1], TOKENIZER)) <= 100
    assert "outgrown the model's context of 120 tokens: the oldest exchange is forgotten" in caplog.text


def test_a_broken_off_answer_is_remembered_as_far_as_it_went() -> None:
    session = ChatSession(Echo())
    pieces = session.respond("one")
    assert next(pieces) == "answer "
    pieces.close()  # type: ignore[attr-defined]
    assert session.messages[-1] == {"role": "assistant", "content": "answer "}


def test_an_error_leaves_the_conversation_as_it_was() -> None:
    runtime = Echo()
    session = ChatSession(runtime)
    said(session, "one")
    before = list(session.messages)
    runtime.error = DataError("the prompt is too long")
    with pytest.raises(DataError):
        said(session, "two")
    assert session.messages == before


def test_a_text_template_takes_single_prompts_and_says_so() -> None:
    runtime = Echo(TEXT)
    session = ChatSession(runtime)
    assert "nothing is remembered" in session.greeting()
    assert "nothing is remembered" not in ChatSession(Echo()).greeting()
    said(session, "one")
    said(session, "two")
    assert runtime.prompts == ["one", "two"]
    assert session.messages == []


def test_a_system_prompt_without_a_place_is_refused() -> None:
    with pytest.raises(UsageError, match="no place for a system prompt"):
        ChatSession(Echo(TEXT), system_prompt="Be brief.")
