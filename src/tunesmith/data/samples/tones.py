"""``sample:tones``: short everyday messages and the tone they are written in; columns ``phrase`` and ``tone``."""

from __future__ import annotations

import json
from importlib import resources

TONES = ("annoyed", "apologetic", "cheerful", "formal", "grateful", "urgent")


def tone_rows() -> list[dict[str, str]]:
    """Return the messages that ship with the package, in the order of their file (shuffled once, so any slice has all six tones)."""
    text = resources.files("tunesmith.data.samples").joinpath("tones.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]
