"""How a row becomes text, decided once at training and stored beside the weights: the only place that knows.

Training asks a template for :meth:`Template.segments`, inference for :meth:`Template.encode_prompt`; both give the same token ids up
to the first token that is learnt.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tunesmith.data.chat_templates import CHAT_TEMPLATES, find_chat_template
from tunesmith.data.formats import Format, Message, answer_texts
from tunesmith.data.placeholders import Piece, as_text, check_placeholders, fill, parse_placeholders, placeholder_names, unescape
from tunesmith.data.tokenize import Segment, encode_texts, merge_segments
from tunesmith.errors import DataError, UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger(__name__)

PromptValue = str | Mapping[str, Any] | Sequence[Message]


@dataclass(frozen=True)
class Template:
    """How a row becomes text.

    Attributes:
        kind: ``text`` (placeholders) or ``chat`` (a conversation rendered by a chat template).
        text: the placeholder template of kind ``text``.
        chat_template: the Jinja template of kind ``chat``.
        format: name and task of the row format, None for a template of the user's own.
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
        return {
            "kind": self.kind,
            "text": self.text,
            "chat_template": self.chat_template,
            "format": self.format,
            "task": self.task,
            "columns": dict(self.columns),
            "answer_column": self.answer_column,
            "stop_tokens": list(self.stop_tokens),
            "train_on_prompt": self.train_on_prompt,
        }

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
        """The columns that a prompt is made of."""
        if self.kind == "text":
            names = placeholder_names(self.text or "")
            return tuple(name for name in names if name != self.answer_column)
        return self._format().prompt_columns if self.format else ()

    def segments(self, row: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase) -> list[Segment]:
        """Return a training row as text, stretch by stretch, with what the loss is on; empty when the row has no answer."""
        parts = self._text_segments(row) if self.kind == "text" else self._chat_segments(row, tokenizer)
        if self.train_on_prompt:
            parts = [Segment(part.text, True) for part in parts]
        return merge_segments(parts)

    def prompt(self, value: PromptValue, tokenizer: PreTrainedTokenizerBase) -> str:
        """Return the text that inference feeds the model.

        Args:
            value: a text (fills the only placeholder, or is the user's turn), the columns of a row, or a list of messages.

        Raises:
            DataError: when the template needs other columns than given.
        """
        if self.kind == "text":
            return _split_spaces(self._text_prompt(value))[0]
        messages, tools = self._prompt_messages(value)
        return _split_spaces(self._render(messages, tokenizer, tools, generation=True))[0]

    def encode_prompt(self, value: PromptValue, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        """Return the ids of :meth:`prompt`, BOS exactly once where the tokenizer uses one: the ids that training saw."""
        return encode_texts([self.prompt(value, tokenizer)], tokenizer)[0]

    def answers(self, row: Mapping[str, Any]) -> list[str]:
        """Return the reference answers of a row: what a prompt made of its other columns should bring."""
        if self.answer_column is not None:
            return answer_texts(row.get(self.answer_column))
        if self.kind == "chat" and self.format:
            spoken = [message for message in self._format().to_record(row).messages if message["role"] == "assistant"]
            return [as_text(message["content"]) for message in spoken[-1:]]
        return []

    def stop_token_ids(self, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        """Return the ids at which an answer ends: the template's stop tokens and the tokenizer's EOS."""
        names = [*self.stop_tokens, *([tokenizer.eos_token] if tokenizer.eos_token else [])]
        ids = [tokenizer.convert_tokens_to_ids(name) for name in dict.fromkeys(names)]
        return [number for number in ids if number is not None and number >= 0]

    # Text templates

    def _split_text(self) -> tuple[tuple[Piece, ...], Piece, tuple[Piece, ...]]:
        """Return what comes before the last placeholder, that placeholder, and the plain text behind it."""
        pieces = parse_placeholders(self.text or "")
        last = max(index for index, piece in enumerate(pieces) if piece.is_column)
        return pieces[:last], pieces[last], pieces[last + 1 :]

    def _text_segments(self, row: Mapping[str, Any]) -> list[Segment]:
        before, answer, after = self._split_text()
        texts = answer_texts(row.get(answer.text))
        if not texts:
            return []
        prompt, spaces = _split_spaces(fill(before, row))
        tail = "".join(piece.text for piece in after)
        stop = self.stop_tokens[0] if self.stop_tokens else ""
        end = tail.find(stop) + len(stop) if stop and stop in tail else len(tail)
        written = tail[:end] if stop and stop in tail else tail + stop
        return [Segment(prompt, False), Segment(spaces + texts[0] + written, True), Segment(tail[end:], False)]

    def _text_prompt(self, value: PromptValue) -> str:
        before = self._split_text()[0]
        columns = list(dict.fromkeys(piece.text for piece in before if piece.is_column))
        if isinstance(value, Mapping):
            return fill(before, value)
        text = value if isinstance(value, str) else _last_user_turn(value)
        if not columns:
            return fill(before, {}) + text
        if len(columns) > 1:
            raise DataError(
                f"the template has several columns ({', '.join(columns)}), so a single text doesn't say which it is",
                fix="Give them by name, e.g. " + "{" + ", ".join(f'"{name}": "…"' for name in columns) + "}",
            )
        return fill(before, {columns[0]: text})

    # Conversations

    def _format(self) -> Format:
        if self.format is None:
            raise DataError("this template knows conversations only, not the columns of a row", fix="Give a text or a list of messages")
        return Format(self.format, self.task, self.columns)

    def _prompt_messages(self, value: PromptValue) -> tuple[list[Message], Sequence[dict[str, Any]]]:
        if isinstance(value, str):
            form = self._format() if self.format else None
            text = value if form is None or form.is_conversation else form.user_turn({form.column("prompt") or "": value})
            return [{"role": "user", "content": text}], ()
        if not isinstance(value, Mapping):
            return list(value), ()
        if "messages" in value and (self.format is None or "messages" not in dict(self.columns).values()):
            return list(value["messages"]), value.get("tools") or ()
        record = self._format().to_record(value)
        messages = list(record.messages)
        if self._format().is_conversation:
            spoken = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
            return (messages[: spoken[-1]] if spoken else messages), record.tools
        return [message for message in messages if message["role"] != "assistant"], record.tools

    def _chat_segments(self, row: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase) -> list[Segment]:
        record = self._format().to_record(row)
        messages = list(record.messages)
        turns = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
        if not turns:
            return []
        through = {turn: self._through(messages[: turn + 1], tokenizer, record.tools) for turn in turns}
        whole, position = through[turns[-1]], 0
        segments: list[Segment] = []
        for turn in turns:
            prompt, _ = _split_spaces(self._render(messages[:turn], tokenizer, record.tools, generation=True))
            # Some templates rewrite earlier turns (they drop the reasoning); such a turn is not what inference would see.
            if position <= len(prompt) and whole.startswith(prompt) and whole.startswith(through[turn]):
                segments += [Segment(whole[position : len(prompt)], False), Segment(whole[len(prompt) : len(through[turn])], True)]
                position = len(through[turn])
        return segments

    def _through(self, messages: Sequence[Message], tokenizer: PreTrainedTokenizerBase, tools: Sequence[dict[str, Any]]) -> str:
        """Render a conversation that ends with an answer, up to and with its end-of-turn token."""
        text = self._render(messages, tokenizer, tools, generation=False)
        stop = self.stop_tokens[0] if self.stop_tokens else ""
        position = text.rfind(stop) if stop else -1
        return text[: position + len(stop)] if position >= 0 else text + stop

    def _render(
        self, messages: Sequence[Message], tokenizer: PreTrainedTokenizerBase, tools: Sequence[dict[str, Any]], *, generation: bool
    ) -> str:
        return render_chat(messages, tokenizer, self.chat_template, tools=tools, generation=generation)


def render_chat(
    messages: Sequence[Message],
    tokenizer: PreTrainedTokenizerBase,
    chat_template: str | None,
    *,
    tools: Sequence[dict[str, Any]] = (),
    generation: bool = False,
) -> str:
    """Render messages with a chat template; a system message goes into the first user turn where the template takes none.

    Raises:
        DataError: when the template refuses the conversation, with its reason.
    """
    import jinja2

    def rendered(turns: Sequence[Message]) -> str:
        return str(
            tokenizer.apply_chat_template(
                list(turns), tools=list(tools) or None, chat_template=chat_template, tokenize=False, add_generation_prompt=generation
            )
        )

    try:
        return rendered(messages)
    except (jinja2.TemplateError, TypeError, ValueError) as error:
        folded = _fold_system(messages)
        if folded is not None:
            try:
                return rendered(folded)
            except (jinja2.TemplateError, TypeError, ValueError):
                pass
        roles = ", ".join(str(message.get("role")) for message in messages)
        fix = "Mend the row, or choose another --chat_template"
        raise DataError(f"the chat template refuses a conversation of {roles}: {error}", fix=fix) from error


def _fold_system(messages: Sequence[Message]) -> list[Message] | None:
    if len(messages) < 2 or messages[0].get("role") != "system" or messages[1].get("role") != "user":
        return None
    first = {**messages[1], "content": f"{messages[0]['content']}\n\n{messages[1]['content']}"}
    return [first, *messages[2:]]


def _last_user_turn(messages: Sequence[Message]) -> str:
    """Return what the user said last: a text template was trained on single exchanges."""
    said = [as_text(message.get("content")) for message in messages if message.get("role") == "user"]
    if not said:
        raise DataError("the conversation has no user turn", fix='Give [{"role": "user", "content": "…"}]')
    return said[-1]


def _split_spaces(prompt: str) -> tuple[str, str]:
    """Split trailing blanks off a prompt: most tokenizers join them to the next word, so the answer must begin with them."""
    kept = prompt.rstrip(" ")
    return kept, prompt[len(kept) :]


def first_special_token(text: str, tokenizer: PreTrainedTokenizerBase) -> str | None:
    """Return the added or special token of the tokenizer that comes first in a text."""
    known = {*tokenizer.get_added_vocab(), *tokenizer.all_special_tokens}
    places = [(text.find(token), -len(token), token) for token in known if token and not token.isspace() and token in text]
    return min(places)[2] if places else None


def end_of_turn(tokenizer: PreTrainedTokenizerBase, chat_template: str | None) -> str | None:
    """Return the token that ends an assistant's turn: the first special one that the chat template writes behind it."""
    probe = "tunesmithprobe"
    text = render_chat([{"role": "user", "content": "a"}, {"role": "assistant", "content": probe}], tokenizer, chat_template)
    return first_special_token(text.rpartition(probe)[2], tokenizer) or tokenizer.eos_token


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
    wants_chat = bool(use_chat_template or chat_template)
    if form.name == "text":
        if wants_chat:
            fix = "Leave --use_chat_template and --chat_template out"
            raise UsageError("rows of plain text have no turns for a chat template", fix=fix)
        return _text_template("{" + (form.column("text") or "") + "}", tokenizer, form=form, train_on_prompt=train_on_prompt)
    own = find_chat_template(chat_template) if chat_template else getattr(tokenizer, "chat_template", None)
    if use_chat_template and not own:
        names = ", ".join(sorted(CHAT_TEMPLATES))
        raise UsageError("this model's tokenizer brings no chat template", fix=f"Name one: --chat_template NAME, with NAME one of {names}")
    if use_chat_template is False or not own:
        if form.layout.plain is not None:
            return _text_template(_plain_text(form), tokenizer, form=form, train_on_prompt=train_on_prompt)
        own = CHAT_TEMPLATES["alpaca" if form.name == "alpaca" else "plain"]
    jinja = str(own)
    stop = end_of_turn(tokenizer, jinja)
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


def _check_options(text_template: str | None, text_field: str | None, use_chat_template: bool | None, chat_template: str | None) -> None:
    if text_template is not None and text_field is not None:
        raise UsageError("--text_template and --text_field both say what the text is", fix="Give one of them")
    name = "--text_template" if text_template is not None else "--text_field"
    if (text_template is not None or text_field is not None) and (use_chat_template or chat_template):
        option = "--chat_template" if chat_template else "--use_chat_template"
        raise UsageError(f"{option} has no effect with {name}, which writes the turns itself", fix="Give one of them")
    if use_chat_template is False and chat_template:
        raise UsageError("--chat_template contradicts --no-use_chat_template", fix="Give one of them")


def _plain_text(form: Format) -> str:
    """Write the format's plain text template with the data's own column names."""
    names = dict(form.columns)
    text = form.layout.plain or ""
    for role in ("prompt", "answer"):
        text = text.replace("{" + role + "}", "{" + names[role] + "}")
    return text


def _text_template(text: str, tokenizer: PreTrainedTokenizerBase, *, form: Format | None = None, train_on_prompt: bool = False) -> Template:
    pieces = parse_placeholders(text)
    last = max(index for index, piece in enumerate(pieces) if piece.is_column)
    tail = "".join(piece.text for piece in pieces[last + 1 :])
    stop = first_special_token(tail, tokenizer) or tokenizer.eos_token
    return Template(
        kind="text",
        text=text,
        format=form.name if form else None,
        task=form.task if form else "text-generation",
        columns=form.columns if form else (),
        answer_column=pieces[last].text,
        stop_tokens=(stop,) if stop else (),
        train_on_prompt=train_on_prompt,
    )
