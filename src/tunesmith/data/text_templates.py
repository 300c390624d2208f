"""Templates made of text with ``{column}`` placeholders: the last placeholder is the answer, what stands behind it belongs to it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from tunesmith.data.placeholders import Piece, as_text, fill, parse_placeholders
from tunesmith.data.tokenize import Segment, special_tokens
from tunesmith.data.turns import Message
from tunesmith.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_LOOKS_SPECIAL = re.compile(r"<\|[^<>|\s]+\|>|<(?:start|end)_of_turn>|\[/?INST\]|</?s>")


@dataclass(frozen=True)
class TextParts:
    """A placeholder template taken apart: what comes before the answer, the answer's column, the plain text behind it."""

    before: tuple[Piece, ...]
    answer: str
    after: str

    @property
    def prompt_columns(self) -> tuple[str, ...]:
        """The columns that the prompt uses, in the order of their first use."""
        return tuple(dict.fromkeys(piece.text for piece in self.before if piece.is_column))


@lru_cache(maxsize=64)
def take_apart(text: str) -> TextParts:
    """Split a template at its last placeholder.

    Raises:
        DataError: when there is none, or braces don't pair up.
    """
    pieces = parse_placeholders(text)
    last = max((index for index, piece in enumerate(pieces) if piece.is_column), default=-1)
    if last < 0:
        raise DataError(f"the template {text!r} uses no column", fix="Write a column's name in braces: {column}")
    return TextParts(pieces[:last], pieces[last].text, "".join(piece.text for piece in pieces[last + 1 :]))


def text_segments(parts: TextParts, value: str | Mapping[str, Any] | Sequence[Message], answers: Sequence[str], stop: str) -> list[Segment]:
    """Return a row as prompt, answer with the token that ends it, and what the template writes behind that."""
    if not answers:
        return []
    prompt, blanks = split_blanks(text_prompt(parts, value))
    at = parts.after.find(stop) if stop else -1
    end = at + len(stop) if at >= 0 else len(parts.after)
    written = parts.after[:end] if at >= 0 else parts.after + stop
    return [Segment(prompt, False), Segment(blanks + answers[0] + written, True), Segment(parts.after[end:], False)]


def text_prompt(parts: TextParts, value: str | Mapping[str, Any] | Sequence[Message]) -> str:
    """Return what stands before the answer.

    A text goes into the only placeholder; where the template has none but the answer's, it is how the answer begins.

    Raises:
        DataError: for a text where several columns are needed, or columns that are missing.
    """
    if isinstance(value, Mapping):
        return fill(parts.before, value)
    text = value if isinstance(value, str) else _last_user_turn(value)
    columns = parts.prompt_columns
    if not columns:
        return fill(parts.before, {}) + text
    if len(columns) > 1:
        raise DataError(
            f"the template has several columns ({', '.join(columns)}), so a single text doesn't say which it is",
            fix="Give them by name, e.g. {" + ", ".join(f'"{name}": "…"' for name in columns) + "}",
        )
    return fill(parts.before, {columns[0]: text})


def _last_user_turn(messages: Sequence[Message]) -> str:
    """Return what the user said last: a text template was trained on single exchanges."""
    said = [as_text(message.get("content")) for message in messages if message.get("role") == "user"]
    if not said:
        raise DataError("the conversation has no user turn", fix='Give [{"role": "user", "content": "…"}]')
    return said[-1]


def split_blanks(prompt: str) -> tuple[str, str]:
    """Split trailing blanks off a prompt: most tokenizers join them to the next word, so the answer must begin with them."""
    kept = prompt.rstrip(" ")
    return kept, prompt[len(kept) :]


def first_special_token(text: str, tokenizer: PreTrainedTokenizerBase) -> str | None:
    """Return the special token that comes first in a text (the longest of those that begin there), None without one."""
    places = [(text.find(token), -len(token), token) for token in special_tokens(tokenizer) if token in text]
    return min(places)[2] if places else None


def unknown_special_tokens(text: str, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Return what looks like a special token in a template but is ordinary text to this tokenizer."""
    known = special_tokens(tokenizer)
    return [token for token in dict.fromkeys(_LOOKS_SPECIAL.findall(text)) if token not in known]
