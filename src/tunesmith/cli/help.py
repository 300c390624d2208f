"""The help of the command line: plain text, as wide as the terminal, grouped as the options are declared."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tunesmith.cli.command import Command
    from tunesmith.config.declare import Option

MAX_WIDTH = 100
MAX_FLAG_COLUMN = 34


def top_help(commands: Mapping[str, str]) -> str:
    """Return what ``tunesmith --help`` shows; ``commands`` are names with a line each."""
    rows = [(name, summary) for name, summary in commands.items()]
    more = [
        ("tunesmith COMMAND --help", "the options of a command"),
        ("tunesmith --version", "the version"),
    ]
    return "\n".join(
        [
            "Usage: tunesmith COMMAND [options]",
            "",
            *_paragraph("From a file of examples to a fine-tuned, checked and deployed small language model."),
            "",
            "Commands:",
            *_table(rows),
            "",
            "More:",
            *_table(more),
            "",
            "Start with: tunesmith finetune data.jsonl",
        ]
    )


def command_help(command: Command) -> str:
    """Return what ``tunesmith COMMAND --help`` shows."""
    lines = ["Usage: " + "\n       ".join(command.usage), "", *_paragraph(command.description), ""]
    groups: dict[str, list[tuple[str, str]]] = {}
    for known in command.all_options().values():
        groups.setdefault(known.group, []).append((_flag(known), _description(known)))
    for group, rows in groups.items():
        lines += [f"{group}:", *_table(rows), ""]
    if command.examples:
        lines += ["Examples:", *(f"  {example}" for example in command.examples), ""]
    return "\n".join(lines).rstrip()


def _flag(known: Option) -> str:
    short = f"-{known.short}, " if known.short else ""
    value = "" if known.kind == "boolean" else f" {known.metavar or _metavar(known)}"
    return f"{short}--{known.name}{value}"


def _metavar(known: Option) -> str:
    return "VALUE"


def _description(known: Option) -> str:
    default = known.default_text or ("" if known.default in (None, False) else str(known.default).lower())
    return known.description + (f" [default: {default}]" if default else "")


def _table(rows: list[tuple[str, str]]) -> list[str]:
    """Return two columns; a first cell that is too long stands on a line of its own."""
    column = min(max(len(left) for left, _ in rows), MAX_FLAG_COLUMN) + 4
    lines = []
    for left, right in rows:
        wrapped = textwrap.wrap(right, max(_width() - column, 20)) or [""]
        if len(left) > column - 4:
            lines.append(f"  {left}")
        else:
            lines.append(f"  {left}".ljust(column) + wrapped.pop(0))
        lines += [" " * column + line for line in wrapped]
    return lines


def _paragraph(text: str) -> list[str]:
    return textwrap.wrap(text, _width())


def _width() -> int:
    return max(40, min(shutil.get_terminal_size((MAX_WIDTH, 24)).columns - 1, MAX_WIDTH))
