"""Conversations to text by a chat template, turn by turn: what the model is fed before each answer, and the answer itself."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tunesmith.data.formats import Record
from tunesmith.data.placeholders import as_text
from tunesmith.data.text_templates import first_special_token, split_blanks
from tunesmith.data.tokenize import Segment
from tunesmith.data.turns import Message
from tunesmith.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_PROBE = "tunesmithprobe"
#: Put before a template that can think, so that prompts of training and of every runtime ask for the answer at once.
NO_THINKING = "{%- set enable_thinking = false -%}\n"


@dataclass(frozen=True)
class ChatRenderer:
    """A chat template bound to a tokenizer and to the token that ends an answer."""

    tokenizer: PreTrainedTokenizerBase
    chat_template: str | None
    stop: str = ""

    def prompt(self, messages: Sequence[Message], tools: Sequence[dict[str, Any]] = ()) -> str:
        """Return the text after which the model answers."""
        return split_blanks(self.render(messages, tools, generation=True))[0]

    def through(self, messages: Sequence[Message], tools: Sequence[dict[str, Any]] = ()) -> str:
        """Return a conversation that ends with an answer, up to and with the token that ends it."""
        text = self.render(messages, tools, generation=False)
        position = text.rfind(self.stop) if self.stop else -1
        return text[: position + len(self.stop)] if position >= 0 else text + self.stop

    def examples(self, record: Record) -> list[list[Segment]]:
        """Return what a conversation teaches: one example with all its answers, where the template leaves earlier turns as they are.

        Some templates rewrite earlier turns (they drop the reasoning). An answer that inference would see in another context
        becomes an example of its own, so that each is learnt in the context in which it will be given.
        """
        messages = list(record.messages)
        turns = [index for index, message in enumerate(messages) if message["role"] == "assistant" and message.get("weight") != 0]
        turns = [index for index in turns if as_text(messages[index].get("content")).strip() or messages[index].get("tool_calls")]
        if not turns:
            return []
        whole = self.turn(messages, turns[-1], record.tools)
        shared: list[Segment] = []
        others: list[list[Segment]] = []
        text, position = "".join(whole), 0
        for turn in turns:
            prompt, answer = whole if turn == turns[-1] else self.turn(messages, turn, record.tools)
            if position <= len(prompt) and text.startswith(prompt + answer):
                shared += [Segment(text[position : len(prompt)], False), Segment(answer, True)]
                position = len(prompt) + len(answer)
            else:
                others.append([Segment(prompt, False), Segment(answer, True)])
        return [*others, shared] if shared else others

    def turn(self, messages: Sequence[Message], turn: int, tools: Sequence[dict[str, Any]]) -> tuple[str, str]:
        """Return prompt and answer of one assistant turn."""
        prompt = self.prompt(messages[:turn], tools)
        through = self.through(messages[: turn + 1], tools)
        if through.startswith(prompt):
            return prompt, through[len(prompt) :]
        # The template writes an answer otherwise than it asks for one; what is fed decides.
        return prompt, as_text(messages[turn].get("content")) + self.stop

    def render(self, messages: Sequence[Message], tools: Sequence[dict[str, Any]] = (), *, generation: bool) -> str:
        """Render messages; a system message goes into the first user turn where the template takes none.

        Raises:
            DataError: when the template refuses the conversation, with its reason.
        """
        import jinja2

        turns, tools = self._readable(messages, tools)
        refused = (jinja2.TemplateError, TypeError, ValueError, KeyError)
        try:
            return self._apply(turns, tools, generation)
        except refused as error:
            folded = _fold_system(turns)
            if folded is not None:
                try:
                    return self._apply(folded, tools, generation)
                except refused:
                    pass
            roles = ", ".join(str(message.get("role")) for message in messages) or "no messages"
            fix = "Mend the row, or choose another --chat_template"
            raise DataError(f"the chat template refuses a conversation of {roles}: {error}", fix=fix) from error

    def _apply(self, messages: Sequence[Message], tools: Sequence[dict[str, Any]], generation: bool) -> str:
        text = self.tokenizer.apply_chat_template(
            list(messages), tools=list(tools) or None, chat_template=self.chat_template, tokenize=False, add_generation_prompt=generation
        )
        return str(text)

    def _readable(self, messages: Sequence[Message], tools: Sequence[dict[str, Any]]) -> tuple[list[Message], Sequence[dict[str, Any]]]:
        """Return the messages as the template can read them: contents as text, tools written out where it knows none."""
        turns = [{**message, "content": _content(message)} for message in messages]
        jinja = self.chat_template or ""
        if "tool_calls" not in jinja and any(message.get("tool_calls") or message["role"] == "tool" for message in turns):
            turns = [_tools_in_words(message) for message in turns]
        if tools and "tools" not in jinja:
            listed = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
            return _add_to_system(turns, f"You can call these tools:\n<tools>\n{listed}\n</tools>"), ()
        return turns, tools


def end_of_turn(tokenizer: PreTrainedTokenizerBase, chat_template: str | None) -> str | None:
    """Return the token that ends an assistant's turn: the first special one that the chat template writes behind it, else EOS."""
    exchange = [{"role": "user", "content": "a"}, {"role": "assistant", "content": _PROBE}]
    text = ChatRenderer(tokenizer, chat_template).render(exchange, generation=False)
    return first_special_token(text.rpartition(_PROBE)[2], tokenizer) or tokenizer.eos_token


def without_thinking(chat_template: str) -> str:
    """Return a chat template that doesn't ask for reasoning, where it has that switch (Qwen 3 and its kin)."""
    return NO_THINKING + chat_template if "enable_thinking" in chat_template else chat_template


def reasons(messages: Sequence[Message]) -> bool:
    """Return whether an answer in a conversation comes with its reasoning."""
    spoken = [message for message in messages if message.get("role") == "assistant"]
    return any(message.get("reasoning_content") or "<think>" in as_text(message.get("content")) for message in spoken)


def _content(message: Mapping[str, Any]) -> str:
    """Return a message's text, whether it is one string or OpenAI's list of parts."""
    content = message.get("content")
    if not isinstance(content, (list, tuple)):
        return as_text(content)
    kinds = {str(part.get("type")) for part in content if isinstance(part, Mapping)} - {"text"}
    if kinds:
        raise DataError(f"a message holds {', '.join(sorted(kinds))}; only text can be learnt", fix="Leave these rows out")
    return "".join(as_text(part.get("text")) if isinstance(part, Mapping) else as_text(part) for part in content)


def _fold_system(messages: Sequence[Message]) -> list[Message] | None:
    if len(messages) < 2 or messages[0].get("role") != "system" or messages[1].get("role") != "user":
        return None
    first = {**messages[1], "content": f"{messages[0]['content']}\n\n{messages[1]['content']}"}
    return [first, *messages[2:]]


def _add_to_system(messages: Sequence[Message], text: str) -> list[Message]:
    if messages and messages[0].get("role") == "system":
        return [{**messages[0], "content": f"{messages[0]['content']}\n\n{text}"}, *messages[1:]]
    return [{"role": "system", "content": text}, *messages]


def _tools_in_words(message: Message) -> Message:
    """Write a tool call or a tool's answer as text, in the tags of Hermes and Qwen, for templates that know no tools."""
    if message.get("role") == "tool":
        return {"role": "user", "content": f"<tool_response>\n{message['content']}\n</tool_response>"}
    calls = [call.get("function", call) for call in message.get("tool_calls") or ()]
    if not calls:
        return message
    written = [json.dumps({"name": call.get("name"), "arguments": call.get("arguments")}, ensure_ascii=False) for call in calls]
    text = "\n".join([message["content"], *(f"<tool_call>\n{call}\n</tool_call>" for call in written)])
    return {"role": message["role"], "content": text.strip()}
