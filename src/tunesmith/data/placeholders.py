"""Text with ``{column}`` placeholders: read it, check it against the columns, fill it from a row."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache

from tunesmith.errors import DataError, nearest

BRACE_FIX = "Write {{ and }} for braces that belong to the text, and {column} for a column's value"


@dataclass(frozen=True)
class Piece:
    """A stretch of a template: plain text, or the place of a column's value."""

    text: str
    is_column: bool


def unescape(text: str) -> str:
    r"""Turn ``\n``, ``\t`` and ``\r`` typed in a shell into the characters they mean; ``\\`` stands for one backslash."""
    meaning = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\"}
    return re.sub(r"\\([ntr\\])", lambda match: meaning[match.group(1)], text)


@lru_cache(maxsize=64)
def parse_placeholders(text: str) -> tuple[Piece, ...]:
    """Split a template into plain text and placeholders; ``{{`` and ``}}`` are literal braces.

    Raises:
        DataError: for braces that don't pair up or an empty placeholder.
    """
    pieces: list[Piece] = []
    literal = ""
    position = 0
    while position < len(text):
        char = text[position]
        if text[position : position + 2] in ("{{", "}}"):
            literal += char
            position += 2
        elif char == "{":
            end = text.find("}", position)
            name = text[position + 1 : end] if end > 0 else ""
            if end < 0 or not name.strip() or "{" in name:
                raise DataError(f"the template has an opening brace at character {position + 1} that starts no placeholder", fix=BRACE_FIX)
            if literal:
                pieces.append(Piece(literal, False))
                literal = ""
            pieces.append(Piece(name.strip(), True))
            position = end + 1
        elif char == "}":
            raise DataError(f"the template has a closing brace at character {position + 1} that no opening brace belongs to", fix=BRACE_FIX)
        else:
            literal += char
            position += 1
    if literal:
        pieces.append(Piece(literal, False))
    return tuple(pieces)


def placeholder_names(text: str) -> list[str]:
    """Return the columns that a template uses, in the order of their first use."""
    return list(dict.fromkeys(piece.text for piece in parse_placeholders(text) if piece.is_column))


def check_placeholders(text: str, columns: Sequence[str]) -> None:
    """Check that a template has placeholders and that each is a column of the data.

    Raises:
        DataError: naming the columns that are missing and those that exist.
    """
    names = placeholder_names(text)
    found = ", ".join(columns)
    if not names:
        fix = f"Write a column's name in braces, e.g. {{{columns[0]}}}"
        raise DataError(f"the template {text!r} uses no column; the data has: {found}", fix=fix)
    missing = [name for name in names if name not in columns]
    if missing:
        listed = ", ".join(f"'{name}'" for name in missing)
        hint = nearest(missing[0], columns)
        fix = f"{hint} " if hint else ""
        raise DataError(
            f"the template uses {listed}, which the data doesn't have; it has: {found}",
            fix=f"{fix}Fix the template, or map a column: --map_columns COLUMN={missing[0]}. {BRACE_FIX}",
        )


def as_text(value: object) -> str:
    """Write a cell as text: strings as they are, lists of words joined by blanks, other structures as JSON, nothing as ''."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if isinstance(value, (list, tuple)) and all(isinstance(item, (str, int, float)) for item in value):
        return " ".join(str(item) for item in value)
    if isinstance(value, (list, tuple, dict)):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


def fill(pieces: Sequence[Piece], row: Mapping[str, object]) -> str:
    """Return the text of ``pieces`` with each placeholder replaced by the row's value.

    Raises:
        DataError: when the row lacks a column.
    """
    missing = [piece.text for piece in pieces if piece.is_column and piece.text not in row]
    if missing:
        raise DataError(
            f"no value for {', '.join(missing)}, which the template uses; given: {', '.join(row)}",
            fix="Give every column of the prompt",
        )
    return "".join(as_text(row[piece.text]) if piece.is_column else piece.text for piece in pieces)
