"""Prompts to be rated, from rows of any known format, and answers that are in files already."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.data.formats import Format, recognize
from tunesmith.data.placeholders import as_text
from tunesmith.data.provenance import data_columns, place_of
from tunesmith.data.sources import load_splits
from tunesmith.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset

#: What ``tunesmith generate`` and ``tunesmith evaluate`` write beside a row's own columns.
_GENERATED = ("generated", "stopped", "num_tokens")
_ROLES = {"system": "System", "user": "User", "assistant": "Assistant", "tool": "Tool"}


@dataclass(frozen=True)
class RatingPrompt:
    """One prompt.

    Attributes:
        text: what raters read.
        reference: the answer that the data has, if any.
        messages: the conversation that a chat model is asked, where the format tells it.
        row: the columns of the data, for templates that use them.
    """

    text: str
    reference: str | None = None
    messages: tuple[Mapping[str, Any], ...] = ()
    row: Mapping[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the prompt as plain values."""
        row = None if self.row is None else dict(self.row)
        return {"text": self.text, "reference": self.reference, "messages": [dict(one) for one in self.messages], "row": row}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RatingPrompt:
        """Read what :meth:`to_dict` wrote.

        Raises:
            ValueError: when there is no text.
        """
        if not isinstance(values.get("text"), str):
            raise ValueError("a prompt has no text")
        return cls(values["text"], values.get("reference"), tuple(values.get("messages") or ()), values.get("row"))


def read_prompts(data_files: Sequence[str], *, text_field: str | None = None, max_samples: int | None = None) -> list[RatingPrompt]:
    """Return the prompts of data files, in their order.

    Args:
        data_files: files of rows; what they look like is recognized as for training, and answers in them become references.
        text_field: the column that is the prompt, for rows of no known format.
        max_samples: most prompts, chosen at random, always the same.

    Raises:
        DataError: for a file that can't be read, a row without a prompt, or columns that don't tell what the prompt is.
    """
    rows = load_splits(data_files=list(data_files), max_samples=max_samples).train
    columns, origin = data_columns(rows), ", ".join(data_files)
    if text_field is not None and text_field not in columns:
        raise DataError(f"there is no column '{text_field}'; there are: {', '.join(columns)}", file=origin)
    form = None if text_field is not None else _format(rows, columns, origin)
    only = text_field or columns[0]
    prompts = []
    for index, row in enumerate(rows.select_columns(columns)):
        prompt = RatingPrompt(as_text(row[only]), row=row) if form is None else _of_format(form, row)
        if not prompt.text.strip():
            file, number = place_of(rows, index)
            raise DataError("the prompt is empty", file=file, row=number, fix="Remove the row, or fill it in")
        prompts.append(prompt)
    return prompts


def read_answers(files: Sequence[str]) -> tuple[list[RatingPrompt], list[list[str]]]:
    """Return the prompts that several files of answers share, and for each file its answers in their order.

    Args:
        files: what ``tunesmith evaluate`` (columns ``input`` and ``output``) or ``tunesmith generate --data_files`` (``generated``) wrote.

    Raises:
        DataError: for a file that can't be read, has no answers, or answers other prompts than the first.
    """
    read = [_read_one(file) for file in files]
    first, _ = read[0]
    for file, (prompts, _) in zip(files[1:], read[1:], strict=True):
        if len(prompts) != len(first):
            raise DataError(f"it answers {len(prompts)} prompts, {files[0]} answers {len(first)}", file=file, fix="Answer the same prompts")
        other = next(
            (number for number, pair in enumerate(zip(prompts, first, strict=True), start=1) if pair[0].text != pair[1].text), None
        )
        if other is not None:
            raise DataError(
                f"the prompt is another one than in {files[0]}", file=file, row=other, fix="Answer the same prompts, in one order"
            )
    return first, [answers for _, answers in read]


def _format(rows: Dataset, columns: Sequence[str], origin: str) -> Format | None:
    """Return the row format; None for one single column, which then is the prompt."""
    if len(columns) == 1 and columns[0] not in ("messages", "conversations", "conversation"):
        return None
    try:
        return recognize(rows, origin=origin)
    except DataError as error:
        message = f"it isn't clear which column is the prompt: {', '.join(columns)}"
        raise DataError(message, file=origin, fix="Name it: --text_field COLUMN") from error


def _of_format(form: Format, row: Mapping[str, Any]) -> RatingPrompt:
    record = form.to_record(row)
    if record.text is not None:
        return RatingPrompt(record.text, row=row)
    messages = list(record.messages)
    reference = None
    if messages and messages[-1]["role"] == "assistant":
        reference = as_text(messages.pop().get("content"))
    return RatingPrompt(_shown(messages), reference, tuple(messages), row)


def _shown(messages: Sequence[Mapping[str, Any]]) -> str:
    """Return a conversation as people read it; a single turn without its speaker."""
    if len(messages) == 1:
        return as_text(messages[0].get("content"))
    return "\n\n".join(f"{_ROLES.get(one['role'], one['role'])}: {as_text(one.get('content'))}" for one in messages)


def _read_one(file: str) -> tuple[list[RatingPrompt], list[str]]:
    prompts, answers = [], []
    for number, row in _lines(file):
        key = next((name for name in ("generated", "output") if isinstance(row.get(name), str)), None)
        if key is None:
            fix = "Give files that tunesmith evaluate or tunesmith generate --data_files wrote"
            raise DataError(f"line {number} has no answer: no text 'output' or 'generated'; it has: {', '.join(row)}", file=file, fix=fix)
        answers.append(str(row[key]))
        prompts.append(_prompt_of_answer(row, key))
    if not prompts:
        raise DataError("there is no answer in it", file=file)
    return prompts, answers


def _prompt_of_answer(row: Mapping[str, Any], key: str) -> RatingPrompt:
    references = row.get("references") or ([row["reference"]] if row.get("reference") else [])
    reference = as_text(references[0]) if references else None
    if key == "output" and "input" in row:
        return RatingPrompt(as_text(row["input"]), reference)
    rest = {name: value for name, value in row.items() if name not in (*_GENERATED, key)}
    if "messages" in rest and isinstance(rest["messages"], list):
        return _of_format(Format("messages", "text-generation", (("messages", "messages"),)), rest)
    if len(rest) == 1:
        return RatingPrompt(as_text(next(iter(rest.values()))), reference)
    return RatingPrompt("\n".join(f"{name}: {as_text(value)}" for name, value in rest.items()), reference)


def _lines(file: str) -> Iterable[tuple[int, dict[str, Any]]]:
    """Yield the objects of a file of JSON lines with their line's number."""
    path = Path(file).expanduser()
    if path.is_dir():
        raise DataError("is a folder, not a file of answers", file=file)
    try:
        content = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise DataError("there is no such file", file=file) from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"can't be read: {error}", file=file) from error
    for number, line in enumerate(content.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError as error:
            raise DataError(f"line {number} is not JSON: {error}", file=file) from error
        if not isinstance(value, dict):
            raise DataError(f"line {number} is no object", file=file)
        yield number, value
