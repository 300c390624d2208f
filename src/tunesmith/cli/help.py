"""The help of the command line: plain text, as wide as the terminal, grouped as the options are declared."""

from __future__ import annotations

import shutil
import textwrap
import typing
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tunesmith.cli.command import Command
    from tunesmith.config.declare import Option

Row = tuple[str, str]

MOST_COLUMNS = 100
NARROW = 72  # below it, descriptions stand under the flags
LONGEST_FLAG = 30  # longer ones stand on a line of their own
LONGEST_CHOICES = 24  # "a|b|c" beside the flag up to this length, in the description above it


def top_help(commands: Mapping[str, str]) -> str:
    """Return what ``tunesmith --help`` shows; ``commands`` are names with a line each."""
    more = [
        ("tunesmith COMMAND --help", "the options of a command"),
        ("tunesmith --version", "the version"),
        ("tunesmith --debug COMMAND …", "show the traceback of an error"),
    ]
    return "\n".join(
        [
            "Usage: tunesmith COMMAND [options]",
            "",
            *_paragraph("From a file of examples to a fine-tuned, checked and deployed small language model."),
            "",
            "Commands:",
            *_table(commands.items()),
            "",
            "More:",
            *_table(more),
            "",
            "Start with: tunesmith finetune data.jsonl",
        ]
    )


def group_help(group: str, commands: Mapping[str, str]) -> str:
    """Return what ``tunesmith GROUP --help`` shows; ``commands`` are full names with a line each."""
    lines = [f"Usage: tunesmith {group} COMMAND [options]", "", "Commands:", *_table(commands.items()), ""]
    return "\n".join([*lines, *_paragraph(f"The options of one: tunesmith {group} COMMAND --help")])


def command_help(command: Command) -> str:
    """Return what ``tunesmith COMMAND --help`` shows."""
    groups: dict[str, list[Row]] = {}
    for known in command.all_options().values():
        groups.setdefault(known.group, []).append((_flag(known), _description(known)))
    column = _first_column(row for rows in groups.values() for row in rows)
    lines = ["Usage: " + "\n       ".join(command.usage), "", *_paragraph(command.description), ""]
    for group, rows in groups.items():
        lines += [f"{group}:", *_table(rows, column), ""]
    if command.takes_training_arguments:
        lines += _paragraph(
            "Every field of transformers' TrainingArguments is a flag too: --learning_rate, --num_train_epochs, --max_steps, "
            f"--per_device_train_batch_size …: tunesmith {command.name} --help_training lists them."
        )
        lines.append("")
    lines += _paragraph("Flags may be written with _ or -, with a space or =; booleans as --flag, --flag false or --no-flag.")
    if command.examples:
        lines += ["", "Examples:", *(f"  {example}" for example in command.examples)]
    return "\n".join(lines)


def training_help(command: Command) -> str:
    """Return what ``tunesmith COMMAND --help_training`` shows: the flags that come from transformers."""
    from tunesmith.config.training_arguments import training_arguments

    rows = []
    for argument in training_arguments().values():
        default = "" if argument.default in (None, "", []) else f" [default: {_plain(argument.default)}]"
        choices = _choices(argument.annotation)
        known = f" One of {', '.join(choices)}." if choices else ""
        rows.append((f"--{argument.name} {_type_text(argument.annotation)}", argument.description + known + default))
    title = f"Flags of tunesmith {command.name} that set a field of transformers' TrainingArguments"
    note = (
        "Where none is given, tunesmith chooses learning rate, schedule, batch, steps and the times of evaluation itself, and prints "
        "what it chose; for the rest the defaults of transformers hold, which are shown here."
    )
    return "\n".join([*_paragraph(title + ". " + note), "", *_table(rows)])


def _flag(known: Option) -> str:
    short = f"-{known.short}, " if known.short else "    "
    if known.kind == "boolean":
        # A boolean that is on by default is only ever switched off.
        return f"{short}--no-{known.name}" if known.default is True else f"{short}--{known.name}"
    choices = "|".join(_choices(known.annotation))
    value = known.metavar or (choices if 0 < len(choices) <= LONGEST_CHOICES else _type_text(known.annotation))
    return f"{short}--{known.name} {value}"


def _description(known: Option) -> str:
    choices = _choices(known.annotation)
    text = known.description
    if len("|".join(choices)) > LONGEST_CHOICES:
        text += f" One of {', '.join(choices)}."
    if known.kind == "boolean" and known.default is True:
        return f"Switch off: {text[:1].lower()}{text[1:]}"
    default = known.default_text or ("" if known.default in (None, False) else _plain(known.default))
    return text + (f" [default: {default}]" if default else "")


def _choices(annotation: Any) -> list[str]:
    """Return the words that a type allows, none where it is no enumeration."""
    from tunesmith.config.declare import alternatives

    literals = [member for member in alternatives(annotation) if typing.get_origin(member) is typing.Literal]
    return [str(word) for member in literals for word in typing.get_args(member)]


def _type_text(annotation: Any) -> str:
    """Return a type as the value of a flag: N for whole numbers, X for numbers, TRUE|FALSE, TEXT, A,B,…, KEY=VALUE."""
    from tunesmith.config.declare import alternatives

    names = {bool: "true|false", int: "N", float: "X", str: "TEXT", dict: "JSON", list: "A,B,…", tuple: "A,B,…", typing.Literal: "NAME"}
    members = [typing.get_origin(member) or member for member in alternatives(annotation) if member is not type(None)]
    if typing.Literal in members and str in members:
        members.remove(str)
    if list in members and str in members:
        members.remove(str)
    return "|".join(dict.fromkeys(names.get(member, "VALUE") for member in members))


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _first_column(rows: Iterable[Row]) -> int:
    """Return where descriptions start: beside the flags, or in a narrow terminal below them."""
    if _width() < NARROW:
        return 8
    return max(len(left) for left, _ in rows if len(left) <= LONGEST_FLAG) + 4


def _table(rows: Iterable[Row], column: int | None = None) -> list[str]:
    """Return two columns; a first cell that is too long for its column stands on a line of its own."""
    rows = list(rows)
    column = column or _first_column(rows)
    lines = []
    for left, right in rows:
        wrapped = textwrap.wrap(right, max(_width() - column, 20), break_long_words=False) or [""]
        if len(left) > column - 4:
            lines.append(f"  {left}")
        else:
            lines.append(f"  {left}".ljust(column) + wrapped.pop(0))
        lines += [" " * column + line for line in wrapped]
    return [line.rstrip() for line in lines]


def _paragraph(text: str) -> list[str]:
    return textwrap.wrap(text, _width())


def _width() -> int:
    return max(40, min(shutil.get_terminal_size((MOST_COLUMNS, 24)).columns - 1, MOST_COLUMNS))
