"""A metric of the user's own: ``file.py:function``."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from tunesmith import user_code
from tunesmith.errors import UsageError
from tunesmith.metrics.protocol import Needs


@dataclass(frozen=True)
class FunctionMetric:
    """A function ``f(predictions, references)`` that returns a number, or numbers by name.

    It is given lists of one length: answers (or labels) as text, and for each row the list of right ones. ``f.greater_is_better = False``
    says that less is better.
    """

    needs: ClassVar[Needs] = "text"

    name: str
    function: Callable[[list[str], list[list[str]]], Any]

    @property
    def headline(self) -> str:
        """The function's name; where it returns several numbers, the first of them stands for it."""
        return self.name

    @property
    def greater_is_better(self) -> bool:
        """What the function says of itself; True when it says nothing."""
        return bool(getattr(self.function, "greater_is_better", True))

    def compute(self, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
        """Call the function.

        Raises:
            UsageError: when it raises, or returns anything but finite numbers.
        """
        try:
            found = self.function(list(predictions), [list(right) for right in references])
        except Exception as error:
            raise UsageError(f"the metric {self.name} raised {type(error).__name__}: {error}", fix="Mend the function") from error
        if not isinstance(found, Mapping):
            return {self.name: self._number(found)}
        if not found:
            raise UsageError(f"the metric {self.name} returned no number", fix="Return a number, or a dict of numbers")
        numbers = {str(key): self._number(value) for key, value in found.items()}
        first = next(iter(numbers.values()))
        return {self.name: numbers.pop(self.name, first)} | {f"{self.name}.{key}": value for key, value in numbers.items()}

    def per_row(self, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> None:
        """Return None: what the function would mean for one row isn't known."""
        return

    def _number(self, value: Any) -> float:
        if isinstance(value, (str, bytes)) or value is None:
            what = "nothing" if value is None else f"text: {value[:40]!r}"
            raise UsageError(f"the metric {self.name} returned {what}", fix="Return a number, or a dict of numbers")
        try:
            number = float(value)
        except (TypeError, ValueError) as error:
            raise UsageError(
                f"the metric {self.name} returned {type(value).__name__}", fix="Return a number, or a dict of numbers"
            ) from error
        if math.isnan(number):
            raise UsageError(f"the metric {self.name} returned a number that is none (nan)", fix="Return a number")
        return number


def load_function(name: str) -> FunctionMetric:
    """Import ``file.py:function``.

    Raises:
        UsageError: when the file is missing, can't be imported, or has no such function.
    """
    return FunctionMetric(user_code.split_name(name)[1], user_code.load_function(name, f"the metric '{name}'"))
