"""Measuring models: on test sets, on benchmarks, against each other, by people.

``tunesmith.evaluate`` is this room and the function `tunesmith.api.evaluate` too. Whichever module of the room is imported first, Python
binds the package to that name, so the package can be called.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _Room(ModuleType):
    """A package that passes a call on to the public function of its name."""

    def __call__(self, *given: Any, **options: Any) -> Any:
        """Measure a model on a test set: see `tunesmith.api.evaluate`."""
        import tunesmith

        return tunesmith.__getattr__("evaluate")(*given, **options)  # type: ignore[operator]  # the lazy name, not this room


sys.modules[__name__].__class__ = _Room
