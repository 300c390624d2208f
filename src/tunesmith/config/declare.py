"""How an option is declared: once, as a pydantic field with its help text. Flags, YAML keys, JSON schema and docs come from that."""

from __future__ import annotations

import typing
from dataclasses import dataclass
from types import UnionType
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Kind = Literal["boolean", "boolean or value", "list", "mapping", "value"]


class Options(BaseModel):
    """The options of one command; frozen, and refusing names it doesn't know."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True, protected_namespaces=())


def option(
    default: Any,
    description: str,
    *,
    group: str,
    short: str | None = None,
    metavar: str | None = None,
    secret: bool = False,
    default_text: str | None = None,
    above: float | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
) -> Any:
    """Declare one option as the default of a field of an ``Options`` class.

    Args:
        default: the value when nobody gives one; None where the command chooses.
        description: the help text, one or two plain sentences.
        group: the heading under which the help shows it.
        short: a one-letter flag, without the dash.
        metavar: what the help shows as its value, e.g. ``FILE``.
        secret: never written to a manifest, a log or a model card.
        default_text: what the help says of the default, where ``default`` alone doesn't tell.
        above: the value must be greater than this.
        at_least: the value must not be less than this.
        at_most: the value must not be greater than this.
        below: the value must be less than this.
    """
    shown: dict[str, Any] = {"group": group, "short": short, "metavar": metavar, "secret": secret, "default_text": default_text}
    extra = {name: value for name, value in shown.items() if value}
    return Field(default, description=description, gt=above, ge=at_least, le=at_most, lt=below, json_schema_extra=extra)


@dataclass(frozen=True)
class Option:
    """What the parser and the help need to know of one declared option."""

    name: str
    annotation: Any
    kind: Kind
    default: object
    description: str
    group: str
    short: str | None = None
    metavar: str | None = None
    secret: bool = False
    default_text: str | None = None


def alternatives(annotation: Any) -> tuple[Any, ...]:
    """Return the members of a union type, unions inside it opened; any other type alone."""
    if typing.get_origin(annotation) in (typing.Union, UnionType):
        return tuple(inner for member in typing.get_args(annotation) for inner in alternatives(member))
    return (annotation,)


def kind_of(annotation: Any) -> Kind:
    """Return how a flag of this type takes its value on a command line."""
    members = [member for member in alternatives(annotation) if member is not type(None)]
    origins = [typing.get_origin(member) or member for member in members]
    if origins == [bool]:
        return "boolean"
    if bool in origins:
        return "boolean or value"
    if list in origins or tuple in origins:
        return "list"
    return "mapping" if origins == [dict] else "value"


def declared_options(options: type[Options]) -> dict[str, Option]:
    """Return the options of a class by name, in the order of their declaration."""
    found = {}
    for name, field in options.model_fields.items():
        shown = field.json_schema_extra
        if not isinstance(shown, dict):
            continue
        default = field.get_default(call_default_factory=True)
        extra: dict[str, Any] = dict(shown)
        found[name] = Option(name, field.annotation, kind_of(field.annotation), default, field.description or "", **extra)
    return found
