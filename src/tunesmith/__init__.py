"""tunesmith: from a file of examples to a fine-tuned, checked and deployed small language model."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tunesmith.api import (
        bench,
        certify,
        chat,
        compare,
        diagnose,
        evaluate,
        evaluate_model,
        finetune,
        generate,
        load,
        merge,
        optimize,
        rate,
        rating_summary,
        report,
    )

__version__ = "0.1.0"

__all__ = [
    "__version__",
    "bench",
    "certify",
    "chat",
    "compare",
    "diagnose",
    "evaluate",
    "evaluate_model",
    "finetune",
    "generate",
    "load",
    "merge",
    "optimize",
    "rate",
    "rating_summary",
    "report",
]


def __getattr__(name: str) -> object:
    """Import a public name when it is first used (PEP 562), so that ``import tunesmith`` stays cheap."""
    if name in __all__:
        return getattr(importlib.import_module("tunesmith.api"), name)
    raise AttributeError(f"module 'tunesmith' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
