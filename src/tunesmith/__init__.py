"""tunesmith: from a file of examples to a fine-tuned, checked and deployed small language model."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tunesmith.api import chat, evaluate, evaluate_model, finetune, generate, load, merge, rate, rating_summary

__version__ = "0.1.0"

_LAZY = dict.fromkeys(
    ("chat", "evaluate", "evaluate_model", "finetune", "generate", "load", "merge", "rate", "rating_summary"), "tunesmith.api"
)

__all__ = ["__version__", "chat", "evaluate", "evaluate_model", "finetune", "generate", "load", "merge", "rate", "rating_summary"]


def __getattr__(name: str) -> object:
    """Import a public name when it is first used (PEP 562), so that ``import tunesmith`` stays cheap."""
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'tunesmith' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
