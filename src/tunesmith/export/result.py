"""What an export brings, and whether it fits the device's memory."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.errors import OutputError, UsageError
from tunesmith.export.certificate import Certificate
from tunesmith.export.targets import Target

if TYPE_CHECKING:
    from tunesmith.export.search.result import SearchResult

_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


@dataclass(frozen=True)
class Optimized:
    """What an export brought.

    Attributes:
        folder: the exported model.
        target: what it was made for.
        size_bytes: of the model's files.
        seconds: that building took, without the proof.
        certificate: what every stage scored; None where nothing could be run, or was asked not to.
        words: sentences for people.
        search: the recipes that were tried, where they were searched.
    """

    folder: Path
    target: Target
    size_bytes: int
    seconds: float
    certificate: Certificate | None
    words: tuple[str, ...]
    search: SearchResult | None = None


def parse_memory(memory: str | int | None) -> int | None:
    """Return bytes from a number or a text like ``2GB`` or ``512 MiB``.

    Raises:
        UsageError: for anything else.
    """
    if memory is None:
        return None
    found = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-zA-Z]*)\s*", str(memory))
    if found is None or found[2].lower() not in _UNITS or float(found[1]) <= 0:
        raise UsageError(f"--memory {memory} is no number of bytes", fix="For example: --memory 2GB")
    return int(float(found[1]) * _UNITS[found[2].lower()])


def check_memory(size: int, limit: int | None, target: Target) -> None:
    """Refuse a model that is larger than the device's memory.

    Raises:
        OutputError: naming both.
    """
    if limit is not None and size > limit:
        smaller = "Take a smaller --precision or a smaller model" if target.precision != "int4" else "Take a smaller model"
        raise OutputError(f"the model takes {size / 1e6:.1f} MB as {target.precision}, --memory allows {limit / 1e6:.1f} MB", fix=smaller)
