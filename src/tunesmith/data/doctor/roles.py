"""Which column of a row is what: from the row format, or from a template of the user's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunesmith.data.doctor.checks import Row
from tunesmith.data.doctor.findings import Places
from tunesmith.data.formats import Format, recognize
from tunesmith.data.placeholders import as_text, check_placeholders, unescape
from tunesmith.data.text_templates import take_apart
from tunesmith.data.turns import is_messages, parsed_json
from tunesmith.errors import DataError

#: Several reference answers of one row, joined to be compared.
JOINT = "\u2029"


@dataclass(frozen=True)
class Roles:
    """How prompt and answer are found in a row.

    Attributes:
        form: the row format; None with a template of the user's own, or when nothing is known about the columns.
        prompt_columns, answer_column: of a template of the user's own.
        unknown: why the format isn't known, empty when it is.
    """

    form: Format | None
    prompt_columns: tuple[str, ...] = ()
    answer_column: str | None = None
    unknown: str = ""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that a row needs."""
        if self.form is None:
            return (*self.prompt_columns, *((self.answer_column,) if self.answer_column else ()))
        return tuple(column for role, column in self.form.columns if role in self.form.layout.roles)

    @property
    def task(self) -> str | None:
        """The task that the rows suggest, None when their format isn't known."""
        return self.form.task if self.form else None

    @property
    def is_plain_text(self) -> bool:
        """Whether rows are texts that are learnt as they stand, perhaps rendered by a template already."""
        if self.form is None:
            return self.answer_column is not None and not self.prompt_columns
        return self.form.name == "text"

    def answer_name(self) -> str:
        """Return what messages call the answer."""
        column = self.answer_column or (self.form.answer_column if self.form else None)
        return f"'{column}'" if column else "the answer"

    def row(self, values: Mapping[str, Any], places: Places, *, index: int = 0, split: str = "train") -> Row:
        """Return a row as checks see it.

        Raises:
            DataError: for a conversation that is none.
        """
        prompt, answer = self.read(values)
        return Row(index, split, values, prompt, answer, places, is_plain_text=self.is_plain_text)

    def read(self, values: Mapping[str, Any]) -> tuple[str, str | None]:
        """Return prompt and answer of a row; the answer is empty where the row has none, None where nobody knows which column it is.

        Raises:
            DataError: for a conversation that is none.
        """
        if self.form is None:
            prompt = "\n".join(text for text in (as_text(values.get(name)) for name in self.prompt_columns) if text.strip())
            return prompt, as_text(values.get(self.answer_column)) if self.answer_column else None
        if self.form.is_conversation or is_messages(parsed_json(values.get(self.form.column("prompt") or ""))):
            return self._conversation(values)
        if self.form.name == "text":
            return "", as_text(values.get(self.form.column("text") or ""))
        return self._prompt(values), JOINT.join(self.form.answers(values))

    def _prompt(self, values: Mapping[str, Any]) -> str:
        assert self.form is not None
        names = [column for role, column in self.form.columns if role not in ("answer", "tools")]
        return "\n".join(text for text in (as_text(values.get(name)) for name in names) if text.strip())

    def _conversation(self, values: Mapping[str, Any]) -> tuple[str, str]:
        assert self.form is not None
        messages = self.form.to_record(values).messages
        last = max((at for at, message in enumerate(messages) if message["role"] == "assistant"), default=None)
        before = messages if last is None else messages[:last]
        answer = "" if last is None else as_text(messages[last].get("content")) or as_text(messages[last].get("tool_calls"))
        return "\n".join(as_text(message.get("content")) for message in before), answer


def find_roles(columns: Sequence[str], *, text_template: str | None = None, text_field: str | None = None) -> Roles:
    """Return which column is what.

    Args:
        columns: those of the rows.
        text_template: text with ``{column}`` placeholders, the last of which is the answer.
        text_field: the one column that is learnt as plain text.

    Raises:
        DataError: for placeholders that are no columns.
    """
    if text_field is not None:
        text_template = "{" + text_field + "}"
    if text_template is not None:
        check_placeholders(unescape(text_template), columns)
        parts = take_apart(unescape(text_template))
        return Roles(None, parts.prompt_columns, parts.answer)
    try:
        return Roles(recognized(columns))
    except DataError as error:
        return Roles(None, tuple(columns), None, f"{error.message}. {error.fix or ''}".strip())


def recognized(columns: Sequence[str]) -> Format:
    """Return the row format of columns.

    Raises:
        DataError: when there is none.
    """
    from datasets import Dataset

    return recognize(Dataset.from_dict({name: [] for name in columns}))
