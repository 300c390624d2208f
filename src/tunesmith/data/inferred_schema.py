"""The schema that the answers of training rows fit, narrow where they are evidence enough and open where they aren't."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, repeat
from typing import Any

#: JSON schema's name of each kind of value; bool before int, which it is one of.
_KINDS: tuple[tuple[type, str], ...] = (
    (bool, "boolean"),
    (int, "integer"),
    (float, "number"),
    (str, "string"),
    (list, "array"),
    (dict, "object"),
    (type(None), "null"),
)

#: So many values of a field are evidence; fewer don't show that numbers are whole, or that texts are from a fixed set.
ENOUGH_VALUES = 100
#: A fixed set has at most so many texts, each seen at least so often and so often on average.
MOST_TEXTS = 100
FEWEST_TIMES = 3
TIMES_ON_AVERAGE = 10
#: Texts of a fixed set stand in the prompt at most this often; values that are copied out of it are of any kind.
MOST_COPIED = 0.2


@dataclass(frozen=True)
class _Seen:
    """A value somewhere in an answer, and the prompt that was answered."""

    value: Any
    prompt: str | None


def infer_schema(answers: Iterable[str], prompts: Iterable[str] | None = None) -> dict[str, Any]:
    """Return a schema that all answers fit: types, fields, a field of every object required, unknown ones not allowed.

    A field whose values are all texts becomes an ``enum`` when they are from a fixed set as far as can be seen: at least 100 values, at
    most 100 different ones, ten of each on average and none seen only once or twice (so that Chao's estimate of unseen ones, f1² / 2 f2,
    is 0; Chao 1984, "Nonparametric estimation of the number of classes in a population"), and at most a fifth of them in the prompt.
    Whole numbers are ``number`` until 100 of them were seen, a field that was always null may hold anything.

    Args:
        answers: JSON texts.
        prompts: what each of them answers; without them no field becomes an ``enum``.
    """
    given = zip(answers, repeat(None) if prompts is None else prompts, strict=False)
    return _schema_of([_Seen(json.loads(answer), prompt) for answer, prompt in given])


def fixed_sets(schema: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, int]]:
    """Yield the fields of an inferred schema that are from a fixed set, each with the number of its values."""
    if "enum" in schema:
        yield path or "the answer", len(schema["enum"])
    free = {re.sub(r"\\(.)", r"\1", pattern[1:-1]): below for pattern, below in schema.get("patternProperties", {}).items()}
    for name, below in {**schema.get("properties", {}), **free}.items():
        yield from fixed_sets(below, f"{path}.{name}" if path else name)
    if "items" in schema:
        yield from fixed_sets(schema["items"], path)


def _schema_of(seen: list[_Seen]) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    kinds = _kinds(seen)
    if kinds:
        schema["type"] = kinds[0] if len(kinds) == 1 else kinds
    if set(kinds) in ({"string"}, {"string", "null"}) and (texts := _fixed_set(seen)):
        schema["enum"] = [*texts, *([None] if "null" in kinds else [])]
    objects = [one for one in seen if isinstance(one.value, dict)]
    if objects:
        schema |= _fields_of(objects)
    items = [_Seen(item, one.prompt) for one in seen if isinstance(one.value, list) for item in one.value]
    if items:
        schema["items"] = _schema_of(items)
    return schema


def _fields_of(objects: Sequence[_Seen]) -> dict[str, Any]:
    """Return the part of a schema that is about fields.

    An answer is written in the order of ``properties``. Where rows don't agree on one, a field that comes too early would shut out another:
    the fields that not every object has are then ``patternProperties``, which come behind the others in any order.
    """
    written = [list(one.value) for one in objects]
    names = _field_order(written)
    place = {name: number for number, name in enumerate(names)}
    agreed = all(place[earlier] < place[later] for row in written for earlier, later in pairwise(row))
    fields = {name: [_Seen(one.value[name], one.prompt) for one in objects if name in one.value] for name in names}
    required = [name for name in names if len(fields[name]) == len(objects)]
    ordered = names if agreed else required
    schema: dict[str, Any] = {"properties": {name: _schema_of(fields[name]) for name in ordered}}
    free = {_exactly(name): _schema_of(fields[name]) for name in names if name not in ordered}
    if free:
        schema["patternProperties"] = free
    return {**schema, "required": required, "additionalProperties": False}


def _exactly(name: str) -> str:
    """Return the pattern of one name, as JSON schema's regular expressions have it."""
    return "^" + re.sub(r"([\\.+*?()|\[\]{}^$])", r"\\\1", name) + "$"


def _kinds(seen: Sequence[_Seen]) -> list[str]:
    """Return the types that the values show; none where they say too little."""
    counts = Counter(next(name for kind, name in _KINDS if isinstance(one.value, kind)) for one in seen)
    if "integer" in counts and ("number" in counts or counts["integer"] < ENOUGH_VALUES):
        counts["number"] += counts.pop("integer")
    return [] if set(counts) == {"null"} else sorted(counts)


def _fixed_set(seen: Sequence[_Seen]) -> list[str]:
    """Return the different texts of a field, where they are from a fixed set; none where they may be anything."""
    texts = [(one.value, one.prompt) for one in seen if one.value is not None]
    counts = Counter(text for text, _ in texts)
    too_few = len(texts) < max(ENOUGH_VALUES, TIMES_ON_AVERAGE * len(counts))
    if too_few or len(counts) > MOST_TEXTS or min(counts.values()) < FEWEST_TIMES:
        return []
    copied = sum(prompt is None or _stands_in(text, prompt) for text, prompt in texts)
    return sorted(counts) if copied <= MOST_COPIED * len(texts) else []


def _stands_in(text: str, prompt: str) -> bool:
    """Return whether a prompt has a text as whole words; an empty one stands everywhere."""
    return re.search(rf"(?<!\w){re.escape(text)}(?!\w)", prompt, re.IGNORECASE) is not None


def _field_order(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return all field names so that every row has its own in this order, as far as rows agree; else in order of first sight."""
    left = list(dict.fromkeys(name for names in rows for name in names))
    before: dict[str, set[str]] = {name: set() for name in left}
    for names in rows:
        for earlier, later in pairwise(names):
            before[later].add(earlier)
    ordered: list[str] = []
    while left:
        following = next((name for name in left if not before[name].intersection(left)), left[0])
        ordered.append(following)
        left.remove(following)
    return ordered
