"""Texts that a wrong encoding went over."""

from __future__ import annotations

import re
from collections.abc import Iterable

from tunesmith.data.doctor.checks import Check, Row, shown
from tunesmith.data.doctor.findings import Finding

_REPLACEMENT = "\ufffd"
#: Characters that steer machines, and halves of characters.
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x80-\x9f\ud800-\udfff]")
# Joiners (U+200C, U+200D) belong to scripts and emoji; these show nothing and are left over from web pages and word processors.
INVISIBLE = re.compile("[\u200b\u2060\ufeff\u00ad]")
_FIX = "Mend it: tunesmith data clean, or read the source again with its own encoding"


class Encoding(Check):
    """Replacement characters, text decoded with the wrong encoding ("mojibake"), control and invisible characters."""

    def see(self, row: Row) -> Iterable[Finding]:
        """Return what is wrong with a row's texts."""
        text = row.text
        if text.isascii() and text.isprintable():
            return
        control, invisible = CONTROL.search(text), INVISIBLE.search(text)
        if _REPLACEMENT in text:
            around = _around(text, text.index(_REPLACEMENT))
            yield row.finding("replacement_character", "warning", f"a letter was lost (U+FFFD): {around}", "Read the source again")
        elif is_mojibake(text):  # its letters may count as control characters or invisible ones
            yield row.finding("mojibake", "warning", f"text decoded with the wrong encoding: {shown(text)}", _FIX)
        elif control:
            message = f"control character U+{ord(control.group()):04X}: {_around(text, control.start())}"
            yield row.finding("control_character", "warning", message, _FIX)
        elif invisible:
            message = f"invisible character U+{ord(invisible.group()):04X}: {_around(text, invisible.start())}"
            yield row.finding("invisible_character", "note", message, "Mend it: tunesmith data clean")


def is_mojibake(text: str) -> bool:
    """Return whether ftfy sees UTF-8 that was decoded with a one-byte encoding, and can undo it."""
    if text.isascii():
        return False
    from ftfy import fix_encoding
    from ftfy.badness import is_bad

    return bool(is_bad(text)) and fix_encoding(text) != text


def _around(text: str, at: int) -> str:
    """Return what stands around a character, with those that nobody sees written out."""
    part = text[max(0, at - 20) : at + 20]
    return shown(CONTROL.sub(lambda match: f"<U+{ord(match.group()):04X}>", part))
