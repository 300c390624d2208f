"""Measuring models: on test sets, on benchmarks, against each other, by people."""

from __future__ import annotations

from tunesmith.callable_room import make_callable

make_callable(__name__)  # `tunesmith.evaluate` is the function `tunesmith.api.evaluate` too
