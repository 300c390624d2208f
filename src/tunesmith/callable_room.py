"""Rooms that share their name with a public function: ``tunesmith.evaluate`` and ``tunesmith.report`` are packages and functions.

Importing any module of such a room makes Python bind the package to that name of ``tunesmith``, in the place of the function. So that it
doesn't matter what was imported before, the package can be called: it passes the call on.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class CallableRoom(ModuleType):
    """A package that passes a call on to the public function of its name."""

    def __call__(self, *given: Any, **options: Any) -> Any:
        """Call the function of this name in `tunesmith.api`; ``__wrapped__`` is that function."""
        return self.__wrapped__(*given, **options)

    @property
    def __wrapped__(self) -> Any:
        """The function itself: `inspect.signature` and `help` follow this name to the arguments and the docstring."""
        import tunesmith

        return tunesmith.__getattr__(self.__name__.rpartition(".")[2])  # the lazy name; the attribute is this package


def make_callable(package: str) -> None:
    """Let a package that is being imported be called like the public function of its name; ``package`` is its ``__name__``."""
    sys.modules[package].__class__ = CallableRoom
