"""Answers that are JSON: whether they can be read, fit the schema, and which of their fields are right."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from tunesmith.errors import UsageError
from tunesmith.metrics.protocol import Needs

#: Keys of objects that are a name and a value.
_NAMES = ("slot", "name", "key", "field", "type", "label", "entity")
_VALUES = ("value", "text")


@dataclass(frozen=True)
class Extraction:
    """How good answers in JSON are.

    A field is a path such as ``slots.city``; places in lists don't count, so a list is a bag of values. An object that is a name and a
    value (``{"slot": "city", "value": "Rome"}``) is the field of that name. A value that is in both answer and reference is right. An
    answer that is no JSON has no fields. Of several references the one with the best F1 counts.

    Attributes:
        schema: JSON schema that answers should fit; without one ``schema_valid`` is left out.
    """

    name: ClassVar[str] = "extraction"
    headline: ClassVar[str] = "field_f1"
    greater_is_better: ClassVar[bool] = True
    needs: ClassVar[Needs] = "text"

    schema: Mapping[str, Any] | None = None

    def compute(self, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
        """Return numbers from 0 to 1: ``json_valid``, ``schema_valid``, ``json_exact_match``; ``field_precision``, ``field_recall`` and
        ``field_f1`` over all values of all fields; and the same three for each field, as ``field_f1[path]``.

        Raises:
            UsageError: when a reference is no JSON, or the schema is no schema.
        """
        found, wanted, right = Counter[str](), Counter[str](), Counter[str]()
        valid = fitting = exact = 0
        validator = _validator(self.schema)
        for predicted, texts in zip(predictions, references, strict=True):
            answer, is_json = parse_answer(predicted)
            reference = self._best(predicted, texts)
            valid += is_json
            fitting += is_json and validator is not None and validator.is_valid(answer)
            exact += is_json and _canonical(answer) == _canonical(reference)
            ours, theirs = _values(answer) if is_json else Counter(), _values(reference)
            for counter, values in ((found, ours), (wanted, theirs), (right, ours & theirs)):
                for (path, _), count in values.items():
                    counter[path] += count
        share = {"json_valid": valid, "schema_valid": fitting, "json_exact_match": exact}
        if validator is None:
            del share["schema_valid"]
        scores = {name: count / len(predictions) for name, count in share.items()}
        scores |= _scores(found.total(), wanted.total(), right.total())
        for path in sorted({*found, *wanted}):
            scores |= {f"{name}[{path}]": value for name, value in _scores(found[path], wanted[path], right[path]).items()}
        return scores

    def per_row(self, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
        """Return the F1 of each row's fields; 1 where answer and reference have none."""
        return [_row_f1(predicted, self._best(predicted, texts)) for predicted, texts in zip(predictions, references, strict=True)]

    def _best(self, predicted: str, references: Sequence[str]) -> Any:
        readings = [_reference(text) for text in references]
        return readings[0] if len(readings) == 1 else max(readings, key=lambda reading: _row_f1(predicted, reading))


def parse_answer(text: str) -> tuple[Any, bool]:
    """Return what an answer says and whether it is JSON from its first to its last character."""
    try:
        return json.loads(text), True
    except (ValueError, RecursionError):
        return None, False


def _reference(text: str) -> Any:
    reading, is_json = parse_answer(text)
    if not is_json:
        raise UsageError(
            f"a reference is no JSON: {text[:60]!r}", fix="The metric extraction is for answers in JSON; leave it out of --metrics"
        )
    return reading


def _row_f1(predicted: str, reference: Any) -> float:
    answer, is_json = parse_answer(predicted)
    if not is_json:
        return 0.0
    ours, theirs = _values(answer), _values(reference)
    if not ours and not theirs:
        return float(_canonical(answer) == _canonical(reference))
    return 2 * (ours & theirs).total() / (ours.total() + theirs.total())


def _values(value: Any) -> Counter[tuple[str, str]]:
    return Counter(_leaves(value, ""))


def _leaves(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Yield (path, value) of everything that is neither object nor list."""
    if isinstance(value, Mapping) and (named := _named_value(value)):
        yield from _leaves(named[1], f"{path}.{named[0]}" if path else named[0])
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item, path)
    else:
        yield path, _canonical(value)


def _named_value(value: Mapping[str, Any]) -> tuple[str, Any] | None:
    """Return name and value of an object that is just these two, as lists of slots and entities are often written."""
    if len(value) != 2:
        return None
    name = next((value[key] for key in _NAMES if isinstance(value.get(key), str)), None)
    found = next((key for key in _VALUES if key in value), None)
    return (name, value[found]) if name and found else None


def _canonical(value: Any) -> str:
    """Return JSON that is the same for equal values, however they were written (``1.0`` and ``1``, the order of keys)."""
    return json.dumps(_plain_numbers(value), sort_keys=True, ensure_ascii=False)


def _plain_numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain_numbers(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _scores(found: int, wanted: int, right: int) -> dict[str, float]:
    """Return precision, recall and F1 from counts; nothing found where nothing was wanted is right."""
    precision = right / found if found else float(not wanted)
    recall = right / wanted if wanted else float(not found)
    f1 = 2 * right / (found + wanted) if found + wanted else 1.0
    return {"field_f1": f1, "field_precision": precision, "field_recall": recall}


def _validator(schema: Mapping[str, Any] | None) -> Any:
    if schema is None:
        return None
    from jsonschema import SchemaError
    from jsonschema.validators import validator_for

    kind = validator_for(schema)
    try:
        kind.check_schema(schema)
    except SchemaError as error:
        raise UsageError(f"the schema of the answers is no JSON schema: {error.message}") from error
    return kind(schema)
