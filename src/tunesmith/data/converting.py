"""Rows from one format to another, and from one kind of file to another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tunesmith.data.doctor.roles import Roles
from tunesmith.data.formats import Record
from tunesmith.data.named_rows import RowSource
from tunesmith.data.placeholders import as_text
from tunesmith.data.rows_of_files import PlacedRow, iterate_rows, roles_of_files
from tunesmith.data.turns import Message
from tunesmith.data.writing import check_output_file, writing_rows
from tunesmith.errors import DataError

Target = Literal["same", "messages", "sharegpt", "alpaca", "prompt-completion", "text-label", "text"]
Row = dict[str, Any]

_SHAREGPT = {"user": "human", "assistant": "gpt", "system": "system", "tool": "tool"}


@dataclass(frozen=True)
class Converted:
    """What converting made.

    Attributes:
        output_path: the rows.
        num_rows: how many.
        source, target: names of the row formats.
        num_several: rows with several answers, of which the first was kept.
    """

    output_path: Path
    num_rows: int
    source: str
    target: str
    num_several: int = 0

    def words(self) -> list[str]:
        """Return what was made, line by line."""
        lines = [f"{self.num_rows:,} rows, {self.source} to {self.target}: {self.output_path}"]
        if self.num_several:
            lines.append(f"{self.num_several:,} rows have several answers; the first of each was kept.")
        return lines


def convert(
    files: Sequence[RowSource],
    output_path: Path,
    *,
    to: Target = "same",
    map_columns: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> Converted:
    """Write rows in another format, or in another kind of file.

    Args:
        files: rows of a known format; of any with ``to="same"``.
        output_path: the result; its ending says which kind of file it is.
        to: the format; ``same`` keeps the columns.
        map_columns: old name -> new name.
        overwrite: replace the result.

    Raises:
        DataError: for rows that can't be read or that the target can't hold, with the place of the first.
        OutputError: when the result is there already or can't be written.
    """
    check_output_file(output_path, overwrite=overwrite, inputs=files)
    if to == "same":
        columns = list(dict.fromkeys(name for row in iterate_rows(files, map_columns) for name in row.values))
        rows: Iterator[Row] = (row.values for row in iterate_rows(files, map_columns))
        return Converted(output_path, _write(rows, output_path, columns), "rows", "the same columns")
    roles = roles_of_files(files, map_columns=map_columns)
    assert roles.form is not None
    converter = _Converter(roles, to)
    num_rows = _write((converter.row(row) for row in iterate_rows(files, map_columns)), output_path, converter.columns())
    return Converted(output_path, num_rows, roles.form.name, to, converter.num_several)


def _write(rows: Iterator[Row], output_path: Path, columns: Sequence[str]) -> int:
    count = 0
    with writing_rows(output_path, columns) as write:
        for row in rows:
            write(row)
            count += 1
    return count


class _Converter:
    """Turns rows of one format into rows of another."""

    def __init__(self, roles: Roles, to: str) -> None:
        assert roles.form is not None
        self.form, self.to = roles.form, to
        self.num_several = 0
        writers: Mapping[str, Callable[[Record, PlacedRow], Row]] = {
            "messages": self._messages,
            "sharegpt": self._sharegpt,
            "alpaca": self._alpaca,
            "prompt-completion": self._prompt_completion,
            "text-label": self._text_label,
            "text": self._text,
        }
        self._writer = writers[to]

    def columns(self) -> list[str]:
        """Return the columns of the target, for tables."""
        known = {
            "messages": ["messages", "tools"],
            "sharegpt": ["conversations", "tools"],
            "alpaca": ["instruction", "input", "output", "system"],
            "prompt-completion": ["prompt", "completion", "system"],
            "text-label": ["text", "label"],
            "text": ["text"],
        }
        optional = {"tools": self.form.is_conversation, "system": self.form.is_conversation or self.form.column("system") is not None}
        return [name for name in known[self.to] if optional.get(name, True)]

    def row(self, row: PlacedRow) -> Row:
        """Return a row in the target's format.

        Raises:
            DataError: when the target can't hold it.
        """
        try:
            record = self.form.to_record(row.values)
        except DataError as error:
            raise DataError(error.message, file=row.place, fix=error.fix) from error
        if record.text is not None and self.to != "text":
            fix = "Convert it to text, or say which part is the answer"
            raise DataError(f"plain text has no prompt and answer, which {self.to} rows need", file=row.place, fix=fix)
        if not self.form.is_conversation and len(self.form.answers(row.values)) > 1:
            self.num_several += 1
        return self._writer(record, row)

    def _messages(self, record: Record, row: PlacedRow) -> Row:
        return {"messages": list(record.messages), **({"tools": list(record.tools)} if record.tools else {})}

    def _sharegpt(self, record: Record, row: PlacedRow) -> Row:
        turns = [{"from": self._speaker(message, row), "value": as_text(message.get("content"))} for message in record.messages]
        return {"conversations": turns, **({"tools": list(record.tools)} if record.tools else {})}

    def _speaker(self, message: Message, row: PlacedRow) -> str:
        if message.get("tool_calls"):
            raise DataError("a message calls a tool, which sharegpt rows can't hold as such", file=row.place, fix="Use --to messages")
        role = str(message["role"])
        if role not in _SHAREGPT:
            raise DataError(f"a message is from '{role}'; known: {', '.join(_SHAREGPT)}", file=row.place, fix="Rename the role")
        return _SHAREGPT[role]

    def _alpaca(self, record: Record, row: PlacedRow) -> Row:
        system, prompt, answer = self._single(record, row)
        extra = as_text(row.values.get(self.form.column("extra") or "")) if self.form.name == "alpaca" else ""
        instruction = as_text(row.values.get(self.form.column("prompt") or "")) if self.form.name == "alpaca" else prompt
        return {"instruction": instruction, "input": extra, "output": answer, **({"system": system} if system else {})}

    def _prompt_completion(self, record: Record, row: PlacedRow) -> Row:
        system, prompt, answer = self._single(record, row)
        return {"prompt": prompt, "completion": answer, **({"system": system} if system else {})}

    def _text_label(self, record: Record, row: PlacedRow) -> Row:
        system, prompt, answer = self._single(record, row)
        if system:
            raise DataError("it has a system message, which text-label rows can't hold", file=row.place, fix="Use --to prompt-completion")
        return {"text": prompt, "label": answer}

    def _text(self, record: Record, row: PlacedRow) -> Row:
        if record.text is None:
            message = f"{self.form.name} rows have a prompt and an answer, which plain text can't tell apart"
            raise DataError(message, file=row.place, fix="Use --to messages")
        return {"text": record.text}

    def _single(self, record: Record, row: PlacedRow) -> tuple[str, str, str]:
        """Return system message, prompt and answer of a single exchange.

        Raises:
            DataError: when there are more turns, or none.
        """
        said = list(record.messages)
        system = as_text(said.pop(0).get("content")) if said and said[0]["role"] == "system" else ""
        if len(said) == 1 and said[0]["role"] == "user":
            return system, as_text(said[0].get("content")), ""
        if [message["role"] for message in said] != ["user", "assistant"] or said[1].get("tool_calls"):
            turns = ", ".join(str(message["role"]) for message in said) or "no turns"
            raise DataError(
                f"a conversation of {turns} is no single exchange, which {self.to} rows hold", file=row.place, fix="Use --to messages"
            )
        return system, as_text(said[0].get("content")), as_text(said[1].get("content"))
