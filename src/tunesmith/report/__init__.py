"""The page of a run or of several, and why a result is poor."""

from __future__ import annotations

from tunesmith.callable_room import make_callable

make_callable(__name__)  # `tunesmith.report` is the function `tunesmith.api.report` too
