"""Real sample data without a download: ``sample:tones``, ``sample:stdlib-modules`` and ``sample:stdlib-summaries``.

``tones`` ships with the package; the other two are read from the source of the Python that runs. See README.md in this folder.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from tunesmith.registry import Registry

SAMPLES = Registry(
    "sample",
    {
        "tones": "tunesmith.data.samples.tones:tone_rows",
        "stdlib-modules": "tunesmith.data.samples.stdlib_modules:module_rows",
        "stdlib-summaries": "tunesmith.data.samples.stdlib_summaries:summary_rows",
    },
)


def sample_names() -> list[str]:
    """Return the names that may stand after ``sample:``, sorted."""
    return SAMPLES.names()


def sample_rows(name: str) -> list[dict[str, str]]:
    """Return all rows of a built-in sample, every time in the same order.

    Args:
        name: one of :func:`sample_names`, without the prefix ``sample:``.

    Raises:
        UsageError: when there is no such sample; the nearest name is suggested.
        DataError: when the sample is made from the standard library and this Python comes without its source.
    """
    rows = cast(Callable[[], list[dict[str, str]]], SAMPLES.load(name))
    return rows()
