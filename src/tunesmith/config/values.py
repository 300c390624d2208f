"""From what a person writes (a flag, a YAML scalar, a Python value) to a value of the option's type.

Every function raises ``ValueError`` with words that follow "--name": ``is 'abc', not a whole number``.
"""

from __future__ import annotations

import enum
import json
import math
import numbers
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

from tunesmith.config.declare import alternatives
from tunesmith.errors import nearest

TRUE_WORDS = ("true", "yes", "on", "1")
FALSE_WORDS = ("false", "no", "off", "0")
NONE_WORDS = ("none", "null")


def convert(value: object, annotation: Any) -> object:
    """Return ``value`` as the type ``annotation``; strings are read as a person means them.

    Args:
        value: text, or a value that Python or YAML already made.
        annotation: bool, int, float, str, an Enum, Literal, list[T], tuple[T, ...], dict[str, T], None or a union of these.
    Raises:
        ValueError: when it can't be read as that type.
    """
    members = alternatives(annotation)
    if value is None and type(None) in members:
        return None
    if isinstance(value, str) and value.strip().lower() in NONE_WORDS and type(None) in members and not _takes_text(members):
        return None
    candidates = _candidates(members)
    reasons = []
    for member in candidates:
        try:
            return _convert_to(value, member, alone=len(candidates) == 1)
        except ValueError as error:
            reasons.append(str(error))
    raise ValueError(reasons[0])


def _candidates(members: tuple[Any, ...]) -> list[Any]:
    """Return the members of a union in the order in which they are tried.

    Text beside an enumeration is only another way to write its members (``SchedulerType | str``): it must not let other words through.
    """
    found = sorted((member for member in members if member is not type(None)), key=_precedence)
    return [member for member in found if member is not str] if any(map(_is_enumeration, found)) else found


def parse_boolean(value: object) -> bool:
    """Return what true/false, yes/no, on/off or 1/0 means."""
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word in TRUE_WORDS:
        return True
    if word in FALSE_WORDS:
        return False
    raise ValueError(f"is {_shown(value)}, neither true nor false")


def parse_integer(value: object) -> int:
    """Return a whole number; ``1e3`` and ``1000.0`` are one, ``1.5`` and ``true`` are not."""
    if value is True:
        raise ValueError("needs a value: a whole number")
    try:
        number = parse_number(value)
    except ValueError:
        raise ValueError(f"is {_shown(value)}, not a whole number") from None
    if not number.is_integer():
        raise ValueError(f"is {_shown(value)}, not a whole number")
    return int(value) if isinstance(value, str) and value.strip().lstrip("+-").isdigit() else int(number)


def parse_number(value: object) -> float:
    """Return a finite number."""
    if value is True:
        raise ValueError("needs a value: a number")
    if isinstance(value, bool) or not isinstance(value, (numbers.Real, str)):
        raise ValueError(f"is {_shown(value)}, not a number")
    try:
        number = float(value)
    except ValueError:
        raise ValueError(f"is {_shown(value)}, not a number") from None
    if not math.isfinite(number):
        raise ValueError(f"is {_shown(value)}, not a finite number")
    return number


def split_list(text: str) -> list[str]:
    """Split ``a,b`` at its commas; text that is a JSON list (``["a,b", "c"]``) is read as one, for items with commas in them."""
    if text.strip().startswith("["):
        try:
            return [str(item) for item in json.loads(text)]
        except json.JSONDecodeError:
            pass
    return [item.strip() for item in text.split(",") if item.strip()]


def parse_mapping(value: object) -> dict[str, object]:
    """Return a mapping from JSON text, from ``key=value`` pairs (a comma list, or a list of them), or from a mapping."""
    if isinstance(value, Mapping):
        return {str(key): item for key, item in value.items()}
    if not isinstance(value, (str, list, tuple)):
        raise ValueError(f"is {_shown(value)}, not key=value")
    found: dict[str, object] = {}
    for text in [value] if isinstance(value, str) else value:
        for key, item in _pairs(str(text)):
            if found.get(key, item) != item:
                raise ValueError(f"names {_shown(key)} twice")
            found[key] = item
    return found


def _pairs(text: str) -> Iterator[tuple[str, object]]:
    """Yield the entries of JSON text or of a comma list of ``key=value``."""
    if text.strip().startswith("{"):
        try:
            yield from json.loads(text).items()
        except json.JSONDecodeError as error:
            raise ValueError(f"is not JSON: {error.msg} at character {error.pos + 1} of {text}") from None
        return
    for pair in split_list(text):
        key, equals, item = pair.partition("=")
        if not equals or not key.strip():
            raise ValueError(f"has {_shown(pair)}, which is not key=value")
        yield key.strip(), item.strip()


def _convert_to(value: object, member: Any, *, alone: bool) -> object:
    """Convert to one type; ``alone`` when no other type could take the value."""
    origin = typing.get_origin(member) or member
    if origin is Literal:
        return _choose(value, typing.get_args(member))
    if _is_enum(origin):
        return _choose(value, [item.value for item in origin])
    if origin in (list, tuple):
        return _to_sequence(value, member, alone=alone)
    if origin is dict:
        return _to_mapping(value, member, alone=alone)
    if origin is bool:
        return _to_boolean(value, alone=alone)
    if origin is Any or origin is object:
        return value
    parsers: dict[type, Callable[[object], object]] = {int: parse_integer, float: parse_number, str: _to_text}
    if origin not in parsers:
        raise ValueError("can't be given as a flag")
    return parsers[origin](value)


def _to_boolean(value: object, *, alone: bool) -> bool:
    """Where text is possible too, only the words true and false mean a boolean: ``1`` or ``on`` may be a name."""
    if not alone and str(value).strip().lower() not in ("true", "false"):
        raise ValueError(f"is {_shown(value)}, neither true nor false")
    return parse_boolean(value)


def _to_text(value: object) -> str:
    if value is True:
        raise ValueError("needs a value")
    if isinstance(value, (Mapping, list, tuple)) or value is None:
        raise ValueError(f"is {_shown(value)}, not text")
    return str(value)


def _to_sequence(value: object, member: Any, *, alone: bool) -> object:
    if value is True:
        raise ValueError("needs a value")
    if isinstance(value, str):
        if not alone and "," not in value and not value.startswith("["):
            raise ValueError(f"is {_shown(value)}, not a list")
        value = split_list(value)
    if isinstance(value, (Mapping, bool)) or value is None:
        raise ValueError(f"is {_shown(value)}, not a list")
    items = value if isinstance(value, (list, tuple, set, frozenset)) else [value]
    arguments = typing.get_args(member)
    converted = [convert(item, arguments[0]) if arguments else item for item in items]
    return tuple(converted) if (typing.get_origin(member) or member) is tuple else converted


def _to_mapping(value: object, member: Any, *, alone: bool) -> dict[str, object]:
    if value is True:
        raise ValueError("needs a value")
    if isinstance(value, str) and not alone and not value.strip().startswith("{") and "=" not in value:
        raise ValueError(f"is {_shown(value)}, not JSON or key=value")
    arguments = typing.get_args(member)
    inner = arguments[1] if arguments else Any
    return {key: convert(_guess(item) if inner is Any else item, inner) for key, item in parse_mapping(value).items()}


def _guess(value: object) -> object:
    """Read the text of an untyped ``key=value``: JSON's numbers, booleans and null, otherwise the text itself."""
    if not isinstance(value, str):
        return value
    for reader in (json.loads, float):
        try:
            return typing.cast(object, reader(value))
        except ValueError:
            continue
    return value


def _choose(value: object, known: typing.Sequence[object]) -> object:
    if value is True and True not in known:
        raise ValueError(f"needs a value: {', '.join(map(str, known))}")
    value = value.value if isinstance(value, enum.Enum) else value
    for choice in known:
        if value == choice or str(value).strip().lower() == str(choice).lower():
            return choice
    close = nearest(str(value), [str(choice) for choice in known])
    raise ValueError(f"is {_shown(value)}, not one of {', '.join(map(str, known))}" + (f". {close}" if close else ""))


def _precedence(member: Any) -> int:
    """Order of trying the members of a union: the narrow ones first, text last."""
    origin = typing.get_origin(member) or member
    if origin is Literal or _is_enum(origin):
        return 0
    order: dict[Any, int] = {bool: 1, int: 2, float: 3, dict: 4, list: 5, tuple: 5}
    return order.get(origin, 6 if origin is str else 7)


def _is_enumeration(member: Any) -> bool:
    """Whether a type is a list of words: an Enum, or a Literal of text."""
    words = typing.get_args(member) if typing.get_origin(member) is Literal else ()
    return _is_enum(member) or any(isinstance(word, str) for word in words)


def _is_enum(member: Any) -> bool:
    return isinstance(member, type) and issubclass(member, enum.Enum)


def _takes_text(members: tuple[Any, ...]) -> bool:
    return str in members


def _shown(value: object) -> str:
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 80 else text[:77] + "…'"
