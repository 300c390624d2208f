"""Results on stdout: for people, or as JSON for programs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path


def to_plain(value: object) -> object:
    """Return a result as what JSON knows: dataclasses and mappings as objects, paths as text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [to_plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value) if isinstance(value, Path) else repr(value)


def print_result(result: object, *, as_json: bool) -> None:
    """Print a command's result; text as it is when no JSON is wanted, nothing for a result that has no text."""
    if as_json:
        print(json.dumps(to_plain(result), ensure_ascii=False))
    elif isinstance(result, (str, Path)):
        print(result)
