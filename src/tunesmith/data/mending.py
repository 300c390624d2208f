"""Texts made whole again: wrong encodings undone, what nobody sees taken out, tokens of templates taken out."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any

from tunesmith.data.doctor.encoding import CONTROL, INVISIBLE, is_mojibake
from tunesmith.data.doctor.templates import TURN_TOKENS

_TOKENS = re.compile("|".join(map(re.escape, TURN_TOKENS)))


def mend_text(text: str, *, keep_tokens: bool = False) -> tuple[str, tuple[str, ...]]:
    """Return a text as it was meant, and the kinds of what was mended.

    Args:
        text: as it was read.
        keep_tokens: leave special tokens in: the text was rendered by a template on purpose.
    """
    kinds = []
    for kind, mended in _MENDINGS.items():
        after = text if keep_tokens and kind == "special_token" else mended(text)
        if after != text:
            kinds.append(kind)
            text = after
    return text, tuple(kinds)


def _decoded_again(text: str) -> str:
    if not is_mojibake(text):
        return text
    from ftfy import fix_encoding

    return str(fix_encoding(text))


_MENDINGS: Mapping[str, Callable[[str], str]] = {
    "mojibake": _decoded_again,
    "line_breaks": lambda text: text.replace("\r\n", "\n").replace("\r", "\n"),
    "control_character": lambda text: CONTROL.sub("", text),
    "invisible_character": lambda text: INVISIBLE.sub("", text),
    "composed_letters": lambda text: unicodedata.normalize("NFC", text),
    "special_token": lambda text: _TOKENS.sub("", text),
    "blanks_around": str.strip,
}


def mend_values(value: Any, kinds: set[str], *, keep_tokens: bool = False) -> Any:
    """Return a row's value with every text in it mended; what was mended is added to ``kinds``."""
    if isinstance(value, str):
        text, found = mend_text(value, keep_tokens=keep_tokens)
        kinds.update(found)
        return text
    if isinstance(value, Mapping):
        return {name: mend_values(item, kinds, keep_tokens=keep_tokens) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [mend_values(item, kinds, keep_tokens=keep_tokens) for item in value]
    return value
