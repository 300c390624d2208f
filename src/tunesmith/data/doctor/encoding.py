"""Texts that a wrong encoding went over."""

from __future__ import annotations

import re
from collections.abc import Iterable

from tunesmith.data.doctor.checks import Check, Row, shown
from tunesmith.data.doctor.findings import Finding

_REPLACEMENT = "\ufffd"
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x80-\x9f\ud800-\udfff]")
# Joiners (U+200C, U+200D) belong to scripts and emoji; these show nothing and are left over from web pages and word processors.
_INVISIBLE = re.compile("[\u200b\u2060\ufeff\u00ad]")
_FIX = "Mend it: tunesmith data clean, or read the source again with its own encoding"


class Encoding(Check):
    """Replacement characters, text decoded with the wrong encoding ("mojibake"), control and invisible characters."""

    def see(self, row: Row) -> Iterable[Finding]:
        """Return what is wrong with a row's texts."""
        text = row.text
        if text.isascii() and text.isprintable():
            return
        if _REPLACEMENT in text:
            around = _around(text, text.index(_REPLACEMENT))
            yield row.finding("replacement_character", "warning", f"a letter was lost (U+FFFD): {around}", "Read the source again")
        elif is_mojibake(text):
            yield row.finding("mojibake", "warning", f"text decoded with the wrong encoding: {shown(text)}", _FIX)
        found = _CONTROL.search(text)
        if found and not (_REPLACEMENT in text or is_mojibake(text)):
            message = f"control character U+{ord(found.group()):04X}: {_around(text, found.start())}"
            yield row.finding("control_character", "warning", message, _FIX)
        if _INVISIBLE.search(text):
            found = _INVISIBLE.search(text)
            assert found is not None
            message = f"invisible character U+{ord(found.group()):04X}: {_around(text, found.start())}"
            yield row.finding("invisible_character", "note", message, "tunesmith data clean")


def is_mojibake(text: str) -> bool:
    """Return whether ftfy sees UTF-8 that was decoded with a one-byte encoding, and can undo it."""
    if text.isascii():
        return False
    from ftfy import fix_encoding
    from ftfy.badness import is_bad

    return bool(is_bad(text)) and fix_encoding(text) != text


def _around(text: str, at: int) -> str:
    return shown(
        text[max(0, at - 20) : at + 20].encode("unicode_escape", "replace").decode()
        if _CONTROL.search(text)
        else text[max(0, at - 20) : at + 20]
    )
