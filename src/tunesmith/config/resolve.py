"""From several sources of options (defaults, a project file, flags) to one checked set, with the source of every value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from tunesmith.config.declare import Option, Options, declared_options
from tunesmith.config.values import convert
from tunesmith.errors import ConfigError, nearest

OptionsT = TypeVar("OptionsT", bound=Options)
Source = tuple[str, Mapping[str, object]]

FLAG = "flag"
DEFAULT = "default"


@dataclass(frozen=True)
class Resolved(Generic[OptionsT]):
    """Checked options, and where each value came from (``default`` where nobody gave one)."""

    options: OptionsT
    sources: Mapping[str, str]

    @property
    def explicit(self) -> frozenset[str]:
        """Names of the options that somebody gave."""
        return frozenset(name for name, source in self.sources.items() if source != DEFAULT)

    def record(self) -> dict[str, dict[str, object]]:
        """Return ``{name: {"value": …, "source": …}}`` for a manifest; training arguments flat beside the rest, secrets left out."""
        values = {name: getattr(self.options, name) for name, known in declared_options(type(self.options)).items() if not known.secret}
        values.update(getattr(self.options, "training", {}))
        return {name: {"value": value, "source": self.sources[name]} for name, value in values.items()}


def resolve(options: type[OptionsT], sources: Sequence[Source]) -> Resolved[OptionsT]:
    """Check what the sources give for ``options`` and put it together.

    Args:
        options: the class that declares them. Where it has a field ``training``, other names are ``TrainingArguments``.
        sources: pairs of a name and a mapping, from the weakest to the strongest; a value of None counts as not given.
    Raises:
        ConfigError: with every problem of every source.
    """
    resolved, problems = check(options, sources)
    if resolved is None:
        raise ConfigError(problems)
    return resolved


def check(options: type[OptionsT], sources: Sequence[Source]) -> tuple[Resolved[OptionsT] | None, list[str]]:
    """Return the resolved options and no problems, or None and every problem; see ``resolve``."""
    known = declared_options(options)
    given, origin = _merge(sources)
    values: dict[str, object] = {}
    problems: list[str] = []
    for name in [name for name in given if name in known]:
        try:
            values[name] = convert(given.pop(name), known[name].annotation)
        except ValueError as error:
            problems.append(f"{label(name, origin[name])} {error}")
    extra = _check_others(given, origin, known, problems, takes_training="training" in options.model_fields)
    made = _build(options, values, extra, origin, problems)
    if made is None or problems:
        return None, problems
    sources_of = {name: origin.get(name, DEFAULT) for name in known} | {name: origin.get(name, DEFAULT) for name in extra}
    return Resolved(made, sources_of), []


def label(name: str, source: str) -> str:
    """Return an option's name as its source writes it: ``--lora_r``, or ``tunesmith.yaml: lora_r``."""
    return f"--{name}" if source in (FLAG, DEFAULT) else f"{source}: {name}"


def _merge(sources: Sequence[Source]) -> tuple[dict[str, object], dict[str, str]]:
    """Put the sources over each other; a nested ``training`` counts as if its entries were given flat."""
    given: dict[str, object] = {}
    origin: dict[str, str] = {}
    for source, mapping in sources:
        nested = mapping.get("training")
        flat = {**nested, **{k: v for k, v in mapping.items() if k != "training"}} if isinstance(nested, Mapping) else mapping
        for name, value in flat.items():
            if value is not None:
                given[name], origin[name] = value, source
    return given, origin


def _check_others(
    given: Mapping[str, object], origin: dict[str, str], known: Mapping[str, Option], problems: list[str], *, takes_training: bool
) -> dict[str, object]:
    """Check the names that ``known`` lacks: training arguments where they are taken, mistakes elsewhere."""
    if not given:
        return {}
    if not takes_training:
        problems += [unknown_option(label(name, origin[name]), name, known) for name in given]
        return {}
    from tunesmith.config.training_arguments import convert_training_arguments

    values, renamed, found = convert_training_arguments(given, own=known, label=lambda name: label(name, origin[name]))
    origin.update({new: origin[old] for new, old in renamed.items()})
    problems += found
    return values


def unknown_option(shown: str, name: str, known: Iterable[str]) -> str:
    """Return the sentence about an option that nobody knows, with the nearest one that is known."""
    close = nearest(name, known)
    return f"{shown} is not known" + (f". {close}" if close else "")


def _build(
    options: type[OptionsT], values: Mapping[str, object], extra: Mapping[str, object], origin: Mapping[str, str], problems: list[str]
) -> OptionsT | None:
    """Make the options; what pydantic finds wrong (limits) is added to the problems."""
    data: dict[str, Any] = {**values, "training": dict(extra)} if "training" in options.model_fields else dict(values)
    try:
        return options(**data)
    except ValidationError as error:
        for problem in error.errors(include_url=False):
            name = str(problem["loc"][0])
            problems.append(f"{label(name, origin.get(name, DEFAULT))} is {problem['input']}: {_lower(problem['msg'])}")
        return None


def _lower(message: str) -> str:
    message = message.removeprefix("Input ")
    return message[:1].lower() + message[1:]
