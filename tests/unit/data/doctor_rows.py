"""Rows for the doctor: clean ones, and files of rows of any kind."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from typing import Any

from tunesmith.data.doctor.report import Report

Rows = Sequence[dict[str, Any] | str | bytes]
Examine = Callable[..., Report]

WORDS = """
red green blue fast slow old new small large round flat warm cold loud quiet sharp soft heavy light dry wet clean young house river window
table garden letter morning evening winter summer market station teacher doctor kitchen bottle paper music picture street bridge forest
mountain village kingdom history question answer weather journey breakfast dinner clothes shoulder finger machine engine holiday
""".split()  # noqa: SIM905


def clean_rows(count: int = 60) -> list[dict[str, Any]]:
    """Rows without anything wrong: all different, three labels."""
    chosen = random.Random(0)
    texts = [f"where is the {' '.join(chosen.sample(WORDS, 7))} that they had with them" for _ in range(count)]
    return [{"text": text, "label": ("place", "time", "colour")[number % 3]} for number, text in enumerate(texts)]


def encoded(rows: Rows) -> bytes:
    """JSON lines; texts and bytes stand for lines that are none."""
    lines = []
    for row in rows:
        text = json.dumps(row, ensure_ascii=False) if isinstance(row, dict) else row
        lines.append(text if isinstance(text, bytes) else text.encode())
    return b"\n".join(lines) + b"\n"
