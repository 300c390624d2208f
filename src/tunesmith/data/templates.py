"""How a row becomes text, decided once at training and stored beside the weights: the only place that knows.

Training asks a template for :meth:`Template.examples`, inference for :meth:`Template.encode_prompt`; both give the same token ids up
to the first token that is learnt.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tunesmith.data.chat_templates import CHAT_TEMPLATES, find_chat_template
from tunesmith.data.conversations import ChatRenderer, end_of_turn, reasons, without_thinking
from tunesmith.data.formats import Format, answer_texts
from tunesmith.data.placeholders import as_text, check_placeholders, unescape
from tunesmith.data.text_templates import first_special_token, split_blanks, take_apart, text_prompt, text_segments, unknown_special_tokens
from tunesmith.data.tokenize import Segment, encode_texts, merge_segments
from tunesmith.data.turns import Message
from tunesmith.errors import DataError, UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger(__name__)

#: A text (fills the only placeholder, or is the user's turn), the columns of a row, or a list of messages.
PromptValue = str | Mapping[str, Any] | Sequence[Message]


@dataclass(frozen=True)
class Template:
    """How a row becomes text.

    Attributes:
        kind: ``text`` (placeholders) or ``chat`` (a conversation rendered by a chat template).
        text: the placeholder template of kind ``text``.
        chat_template: the Jinja template of kind ``chat``.
        format: name of the row format, None for a template of the user's own.
        task: the task that the rows suggest.
        columns: (role, column) pairs of the format.
        answer_column: the column that is learnt, where it is one.
        stop_tokens: what ends an answer; the first is written after each.
        train_on_prompt: whether the loss is on the prompt too.
    """

    kind: str
    text: str | None = None
    chat_template: str | None = None
    format: str | None = None
    task: str = "text-generation"
    columns: tuple[tuple[str, str], ...] = ()
    answer_column: str | None = None
    stop_tokens: tuple[str, ...] = ()
    train_on_prompt: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return the template as plain values for a manifest."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {**values, "columns": dict(self.columns), "stop_tokens": list(self.stop_tokens)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Template:
        """Read what :meth:`to_dict` wrote; keys of later versions are ignored.

        Raises:
            DataError: when the kind is missing or unknown.
        """
        if values.get("kind") not in ("text", "chat"):
            raise DataError(f"a stored template is of kind {values.get('kind')!r}; known: text, chat")
        known = {key: values[key] for key in cls.__dataclass_fields__ if key in values}
        known["columns"] = tuple(dict(values.get("columns") or {}).items())
        known["stop_tokens"] = tuple(values.get("stop_tokens") or ())
        return cls(**known)

    @property
    def prompt_columns(self) -> tuple[str, ...]:
        """The columns that a prompt is made of; none for conversations."""
        if self.kind == "text":
            return take_apart(self.text or "").prompt_columns
        return self._format().prompt_columns if self.format else ()

    def examples(self, row: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase) -> list[list[Segment]]:
        """Return what a training row teaches, as text, stretch by stretch, with what the loss is on.

        Returns: no example for a row without an answer; several for a conversation whose earlier turns the chat template rewrites.

        Raises:
            DataError: for a row that can't be rendered.
        """
        if self.kind == "text":
            found = [text_segments(take_apart(self.text or ""), row, self.answers(row), self._stop())]
        else:
            found = self._renderer(tokenizer).examples(self._format().to_record(row))
        if self.train_on_prompt:
            found = [[Segment(part.text, True) for part in parts] for parts in found]
        return [merged for merged in map(merge_segments, found) if merged]

    def segments(self, row: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase) -> list[Segment]:
        """Return the (last) example of a training row; empty when the row has no answer."""
        found = self.examples(row, tokenizer)
        return found[-1] if found else []

    def prompt(self, value: PromptValue, tokenizer: PreTrainedTokenizerBase) -> str:
        """Return the text that inference feeds the model.

        Raises:
            DataError: when the template needs other columns than given.
        """
        if self.kind == "text":
            return split_blanks(text_prompt(take_apart(self.text or ""), value))[0]
        return self._renderer(tokenizer).prompt(*self._messages(value))

    def with_answer(self, value: PromptValue, answer: str, tokenizer: PreTrainedTokenizerBase) -> tuple[str, str]:
        """Return a prompt and what the model writes behind it to give ``answer``, as a training row with this answer has them.

        The second text holds what ends the answer too, and the blanks that the template has before it.

        Raises:
            DataError: when the template needs other columns than given.
        """
        if self.kind == "text":
            prompt, written = text_segments(take_apart(self.text or ""), value, [answer], self._stop())[:2]
            return prompt.text, written.text
        messages, tools = self._messages(value)
        return self._renderer(tokenizer).turn([*messages, {"role": "assistant", "content": answer}], len(messages), tools)

    def question(self, value: PromptValue, tokenizer: PreTrainedTokenizerBase) -> str:
        """Return the part of a prompt that people want to read: what the user says last, without the template around it."""
        if self.kind == "text":
            return self.prompt(value, tokenizer)
        said = [as_text(message.get("content")) for message in self._messages(value)[0] if message.get("role") == "user"]
        return said[-1] if said else self.prompt(value, tokenizer)

    def encode_prompt(self, value: PromptValue, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        """Return the ids of :meth:`prompt`, BOS exactly once where the tokenizer uses one: the ids that training saw."""
        return encode_texts([self.prompt(value, tokenizer)], tokenizer)[0]

    def answers(self, row: Mapping[str, Any]) -> list[str]:
        """Return the reference answers of a row: what a prompt made of its other columns should bring."""
        if self.format and self._format().is_conversation:
            spoken = [message for message in self._format().to_record(row).messages if message["role"] == "assistant"]
            return [as_text(message.get("content")) for message in spoken[-1:]]
        if self.format:
            return self._format().answers(row)
        return answer_texts(row.get(self.answer_column or ""))

    def stop_token_ids(self, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        """Return the ids at which an answer ends: the template's stop tokens and the tokenizer's EOS."""
        names = [*self.stop_tokens, *([tokenizer.eos_token] if tokenizer.eos_token else [])]
        ids = (tokenizer.convert_tokens_to_ids(name) for name in names)
        return list(dict.fromkeys(number for number in ids if isinstance(number, int) and number != tokenizer.unk_token_id))

    def _stop(self) -> str:
        return self.stop_tokens[0] if self.stop_tokens else ""

    def _renderer(self, tokenizer: PreTrainedTokenizerBase) -> ChatRenderer:
        return ChatRenderer(tokenizer, self.chat_template, self._stop())

    def _format(self) -> Format:
        if self.format is None:
            raise DataError("this template knows conversations only, not the columns of a row", fix="Give a text or a list of messages")
        return Format(self.format, self.task, self.columns)

    def _messages(self, value: PromptValue) -> tuple[list[Message], Sequence[dict[str, Any]]]:
        """Return the conversation that an answer is asked for, and its tools."""
        if isinstance(value, str):
            form = self._format() if self.format else None
            text = value if form is None or form.is_conversation else form.user_turn({form.column("prompt") or "": value})
            return [{"role": "user", "content": text}], ()
        if not isinstance(value, Mapping):
            return list(value), ()
        if self.format is None and "messages" in value:
            return list(value["messages"]), value.get("tools") or ()
        record = self._format().to_record(value)
        spoken = [index for index, message in enumerate(record.messages) if message["role"] == "assistant"]
        last_is_answer = bool(spoken) and spoken[-1] == len(record.messages) - 1
        return list(record.messages[:-1] if last_is_answer else record.messages), record.tools


def choose_template(
    form: Format | None,
    columns: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    *,
    text_template: str | None = None,
    text_field: str | None = None,
    use_chat_template: bool | None = None,
    chat_template: str | None = None,
    train_on_prompt: bool = False,
    rows: Sequence[Mapping[str, Any]] = (),
) -> Template:
    """Decide how rows become text.

    Args:
        form: what :func:`~tunesmith.data.formats.recognize` found; may be None with ``text_template`` or ``text_field``.
        columns: the columns of the data.
        text_template: text with ``{column}`` placeholders, the last of which is the answer; typed ``\\n`` means a line break.
        text_field: the one column to learn as plain text.
        use_chat_template: True to insist on a chat template, False to go without; None decides by the tokenizer.
        chat_template: a name, a file or Jinja in place of the tokenizer's own.
        train_on_prompt: put the loss on the prompt too.
        rows: a few rows, to see whether answers come with their reasoning; without it, models that can think are asked not to.

    Raises:
        UsageError: for options that contradict each other.
        DataError: for placeholders that are no columns, or rows that can't be a conversation.
    """
    _check_options(text_template, text_field, use_chat_template, chat_template)
    if text_field is not None:
        text_template = "{" + text_field + "}"
    if text_template is not None:
        text = unescape(text_template)
        check_placeholders(text, columns)
        return _text_template(text, tokenizer, train_on_prompt=train_on_prompt)
    if form is None:
        raise DataError("no template and no known row format", fix="Give --text_template")
    if form.name == "text" and (use_chat_template or chat_template):
        fix = "Leave --use_chat_template and --chat_template out"
        raise UsageError("rows of plain text have no turns for a chat template", fix=fix)
    own = find_chat_template(chat_template) if chat_template else _own_chat_template(tokenizer)
    if use_chat_template and not own:
        names = ", ".join(sorted(CHAT_TEMPLATES))
        raise UsageError("this model's tokenizer brings no chat template", fix=f"Name one: --chat_template NAME, with NAME one of {names}")
    if form.name == "text" or ((use_chat_template is False or not own) and form.layout.plain is not None):
        return _text_template(form.plain_text(), tokenizer, form=form, train_on_prompt=train_on_prompt)
    if use_chat_template is False or not own:
        own = CHAT_TEMPLATES["alpaca" if form.name == "alpaca" else "plain"]
    jinja = own
    if not any(reasons(form.to_record(row).messages) for row in rows):
        jinja = without_thinking(jinja)
    return _chat_template(jinja, form, tokenizer, train_on_prompt=train_on_prompt)


def _check_options(text_template: str | None, text_field: str | None, use_chat_template: bool | None, chat_template: str | None) -> None:
    if text_template is not None and text_field is not None:
        raise UsageError("--text_template and --text_field both say what the text is", fix="Give one of them")
    name = "--text_template" if text_template is not None else "--text_field"
    if (text_template is not None or text_field is not None) and (use_chat_template or chat_template):
        option = "--chat_template" if chat_template else "--use_chat_template"
        raise UsageError(f"{option} has no effect with {name}, which writes the turns itself", fix="Give one of them")
    if use_chat_template is False and chat_template:
        raise UsageError("--chat_template contradicts --no-use_chat_template", fix="Give one of them")


def _own_chat_template(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """Return the tokenizer's chat template; of several the default one."""
    own = getattr(tokenizer, "chat_template", None)
    if isinstance(own, Mapping):
        own = own.get("default") or next(iter(own.values()), None)
    return str(own) if own else None


def _chat_template(jinja: str, form: Format, tokenizer: PreTrainedTokenizerBase, *, train_on_prompt: bool) -> Template:
    stop = end_of_turn(tokenizer, jinja)
    _warn_of_tokens(jinja, stop, tokenizer)
    return Template(
        kind="chat",
        chat_template=jinja,
        format=form.name,
        task=form.task,
        columns=form.columns,
        answer_column=form.answer_column,
        stop_tokens=(stop,) if stop else (),
        train_on_prompt=train_on_prompt,
    )


def _text_template(text: str, tokenizer: PreTrainedTokenizerBase, *, form: Format | None = None, train_on_prompt: bool) -> Template:
    parts = take_apart(text)
    if parts.answer in parts.prompt_columns:
        log.warning("The template shows the answer, {%s}, in the prompt: the model will learn to copy it.", parts.answer)
    stop = first_special_token(parts.after, tokenizer) or tokenizer.eos_token
    _warn_of_tokens(text, stop, tokenizer)
    return Template(
        kind="text",
        text=text,
        format=form.name if form else None,
        task=form.task if form else "text-generation",
        columns=form.columns if form else (),
        answer_column=parts.answer,
        stop_tokens=(stop,) if stop else (),
        train_on_prompt=train_on_prompt,
    )


def _warn_of_tokens(template: str, stop: str | None, tokenizer: PreTrainedTokenizerBase) -> None:
    unknown = unknown_special_tokens(template, tokenizer)
    if unknown:
        log.warning("The template writes %s, which this model's tokenizer reads as ordinary text.", ", ".join(unknown))
    if not stop:
        log.warning("This model's tokenizer has no end-of-text token: answers will end by --max_new_tokens alone.")
