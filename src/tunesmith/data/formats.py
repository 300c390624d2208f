"""The row formats of the field, recognized by their column names and turned into one kind of record.

To add one: a line in ``LAYOUTS`` (or, for conversations, a function like ``sharegpt_messages``).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tunesmith.data.placeholders import as_text
from tunesmith.data.turns import Message as Message
from tunesmith.data.turns import is_messages, openai_message, parsed_json, sharegpt_message, without_none
from tunesmith.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Record:
    """A row in the one shape that everything else reads: a conversation, or plain text."""

    messages: tuple[Message, ...] = ()
    text: str | None = None
    label: str | None = None
    tools: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True)
class Layout:
    """How a format looks: for each role the column names that are known for it, best first.

    ``plain`` is the text template for models without a chat template; ``lead`` opens the user's turn in a chat.
    """

    name: str
    task: str
    roles: Mapping[str, tuple[str, ...]]
    optional: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    plain: str | None = None
    lead: str = ""


LAYOUTS: tuple[Layout, ...] = (
    Layout("tokens-tags", "token-classification", {"prompt": ("tokens", "words"), "answer": ("tags", "ner_tags", "labels")}),
    Layout("text-spans", "token-classification", {"prompt": ("text", "sentence"), "answer": ("spans", "entities")}),
    Layout(
        "text-pair",
        "similarity",
        {
            "first": ("text1", "sentence1", "question1", "text_a"),
            "second": ("text2", "sentence2", "question2", "text_b"),
            "answer": ("label", "score", "similarity", "similarity_score", "is_duplicate"),
        },
        plain="Text 1: {first}\nText 2: {second}\nLabel: {answer}",
    ),
    Layout("messages", "text-generation", {"messages": ("messages",)}, {"tools": ("tools", "functions")}),
    Layout(
        "sharegpt",
        "text-generation",
        {"conversations": ("conversations", "conversation")},
        {"tools": ("tools",), "system": ("system",)},
    ),
    Layout(
        "alpaca",
        "text-generation",
        {"prompt": ("instruction",), "answer": ("output", "response", "completion")},
        {"extra": ("input", "context"), "system": ("system",)},
    ),
    Layout(
        "prompt-completion",
        "text-generation",
        {"prompt": ("prompt",), "answer": ("completion", "response", "output")},
        {"system": ("system",)},
        plain="{prompt}\n{answer}",
    ),
    Layout(
        "question-answer",
        "text-generation",
        {"prompt": ("question", "query"), "answer": ("answer", "answers", "response")},
        {"before": ("context", "passage")},
        plain="Question: {prompt}\nAnswer: {answer}",
    ),
    Layout(
        "document-summary",
        "summarization",
        {
            "prompt": ("document", "article", "long", "dialogue", "source", "text", "body", "content"),
            "answer": ("summary", "highlights", "short", "abstract", "tldr"),
        },
        plain="{prompt}\n\nSummary: {answer}",
        lead="Summarize:\n\n",
    ),
    Layout(
        "text-json",
        "extraction",
        {"prompt": ("text", "sentence", "utterance", "document"), "answer": ("json", "fields", "record", "extraction")},
        plain="{prompt}\nJSON: {answer}",
        lead="Extract as JSON:\n\n",
    ),
    Layout(
        "text-label",
        "text-classification",
        {
            "prompt": ("text", "sentence", "utterance", "phrase", "message", "review", "content", "comment", "tweet", "input"),
            "answer": ("label", "label_text", "intent", "category", "class", "sentiment", "tone"),
        },
        plain="Text: {prompt}\nLabel: {answer}",
    ),
    Layout(
        "input-output",
        "text-generation",
        {"prompt": ("input", "inputs", "source", "mr"), "answer": ("output", "outputs", "target", "targets", "ref", "refs")},
        plain="Input: {prompt}\nOutput: {answer}",
    ),
    Layout("text", "text-generation", {"text": ("text", "content")}, plain="{text}"),
)

_BY_NAME = {layout.name: layout for layout in LAYOUTS}


def is_label_name(column: str) -> bool:
    """Whether a column is called as labels are."""
    return column.lower() in _BY_NAME["text-label"].roles["answer"]


@dataclass(frozen=True)
class Format:
    """A recognized row format: its name, the task it suggests, and which column plays which role."""

    name: str
    task: str
    columns: tuple[tuple[str, str], ...]

    @property
    def layout(self) -> Layout:
        """What is known about the format whatever the data."""
        return _BY_NAME[self.name]

    def column(self, role: str) -> str | None:
        """Return the data's column for a role (``prompt``, ``answer``, ``messages`` …), None when there is none."""
        return dict(self.columns).get(role)

    @property
    def answer_column(self) -> str | None:
        """The column that is learnt, where it is one column."""
        return self.column("answer") or self.column("text")

    @property
    def prompt_columns(self) -> tuple[str, ...]:
        """The columns that a prompt is made of, in the order of the data's roles."""
        return tuple(column for role, column in self.columns if role in ("system", "before", "prompt", "extra", "first", "second"))

    @property
    def is_conversation(self) -> bool:
        """Whether a row holds a list of messages."""
        return self.name in ("messages", "sharegpt")

    def detect(self, row: Mapping[str, object]) -> bool:
        """Return whether a row has the columns of this format."""
        return all(column in row for _, column in self.columns)

    def to_record(self, row: Mapping[str, object]) -> Record:
        """Turn a row into a record; with an answer the last message is the assistant's, without one the user's.

        Raises:
            DataError: when a conversation is not a list of messages.
        """
        if self.is_conversation:
            return _conversation(self, row)
        if self.name == "text":
            return Record(text=as_text(row.get(self.column("text") or "")))
        if self.name == "prompt-completion" and is_messages(row.get(self.column("prompt") or "")):
            return Record(messages=tuple(self._conversational(row)))
        messages = [*_system(self, row), {"role": "user", "content": self.user_turn(row)}]
        answer = self.answers(row)
        if answer:
            messages.append({"role": "assistant", "content": answer[0]})
        label = answer[0] if answer and self.task == "text-classification" else None
        return Record(messages=tuple(messages), label=label)

    def _conversational(self, row: Mapping[str, Any]) -> list[Message]:
        """Return the turns of a row whose prompt, and perhaps completion, are lists of messages (TRL writes such rows)."""
        prompt, completion = row[self.column("prompt") or ""], row.get(self.answer_column or "")
        turns = [openai_message(turn) for turn in prompt]
        if completion is not None and is_messages(completion):
            return turns + [openai_message(turn) for turn in completion]
        return turns + [{"role": "assistant", "content": text} for text in answer_texts(completion)[:1]]

    def answers(self, row: Mapping[str, object]) -> list[str]:
        """Return the answers in a row; a row without the answer's column may have it under another name of the format (refs, ref)."""
        column = self.answer_column or ""
        if is_messages(row.get(column)):
            return [as_text(row[column][-1].get("content"))]  # type: ignore[index]
        if column not in row:
            column = next((name for name in self.layout.roles.get("answer", ()) if name in row), column)
        return answer_texts(row.get(column))

    def plain_text(self) -> str:
        """Return the format's text template for models without a chat template, with the data's own column names."""
        text = self.layout.plain or ""
        for role, column in self.columns:
            text = text.replace("{" + role + "}", "{" + column + "}")
        return text

    def user_turn(self, row: Mapping[str, object]) -> str:
        """Return what the user says in a row without a list of messages."""
        parts = [as_text(row.get(self.column(role) or "")) for role in ("before", "prompt", "extra", "first", "second")]
        return self.layout.lead + "\n\n".join(part for part in parts if part.strip())


def answer_texts(value: object) -> list[str]:
    """Return the answers in a cell: one text, several references, or SQuAD's ``{"text": [...]}``; empty ones left out."""
    if isinstance(value, Mapping) and "text" in value:
        value = value["text"]
    values = value if isinstance(value, (list, tuple)) else [value]
    return [text for text in map(as_text, values) if text.strip()]


def recognize(dataset: Dataset, *, origin: str | None = None) -> Format:
    """Return the format of a data set's rows.

    Args:
        dataset: any data set with at least one row.
        origin: the file or name that messages should show.

    Raises:
        DataError: listing the columns found and the formats known.
    """
    from tunesmith.data.provenance import data_columns

    columns = data_columns(dataset)
    for layout in LAYOUTS:
        roles = _match(layout, columns)
        if roles is not None:
            unused = [column for column in columns if column not in dict(roles).values()]
            if unused:
                log.info("Columns that the %s format has no use for: %s.", layout.name, ", ".join(unused))
            return Format(layout.name, layout.task, roles)
    known = "; ".join(f"{'+'.join(names[0] for names in layout.roles.values())}" for layout in LAYOUTS)
    example = "{" + columns[0] + "}" + ("".join("\\n{" + name + "}" for name in columns[1:2]))
    raise DataError(
        f"the row format isn't known: columns {', '.join(columns)}; formats known: {known}",
        file=origin,
        fix=f'Say how a row becomes text: --text_template "{example}" (the last column is the answer)',
    )


def _match(layout: Layout, columns: Sequence[str]) -> tuple[tuple[str, str], ...] | None:
    """Return (role, column) pairs when every role of the layout finds a column, else None."""
    lowered = {column.lower(): column for column in reversed(columns)}
    found: dict[str, str] = {}
    for role, names in [*layout.roles.items(), *layout.optional.items()]:
        free = (lowered[name] for name in names if name in lowered and lowered[name] not in found.values())
        column = next(free, None)
        if column is not None:
            found[role] = column
        elif role in layout.roles:
            return None
    return tuple(found.items())


def _system(form: Format, row: Mapping[str, object]) -> list[Message]:
    text = as_text(row.get(form.column("system") or ""))
    return [{"role": "system", "content": text}] if text.strip() else []


def _conversation(form: Format, row: Mapping[str, object]) -> Record:
    column = form.column("messages") or form.column("conversations") or ""
    turns = parsed_json(row.get(column))
    if not isinstance(turns, (list, tuple)) or not all(isinstance(turn, Mapping) for turn in turns):
        found = as_text(row.get(column))[:60]
        raise DataError(f"column '{column}' is no list of messages, it holds {found!r}", fix='Write [{"role": "user", "content": "…"}, …]')
    read: Callable[[Mapping[str, Any]], Message] = openai_message if form.name == "messages" else sharegpt_message
    messages = [*_system(form, row), *(read(turn) for turn in turns)]
    tools = parsed_json(row.get(form.column("tools") or ""))
    return Record(messages=tuple(messages), tools=tuple(without_none(tool) for tool in tools or ()))
