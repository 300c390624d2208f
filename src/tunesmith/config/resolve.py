"""From several sources of options (defaults, a project file, flags) to one checked set, with the source of every value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    takes_training = "training" in options.model_fields
    problems: list[str] = []
    given = _merge(sources, known, problems, takes_training=takes_training)
    values: dict[str, object] = {}
    for name in [name for name in given if name in known]:
        try:
            values[name] = convert(given[name].value, known[name].annotation)
        except ValueError as error:
            problems.append(f"{given[name].label} {error}")
    others = {name: one for name, one in given.items() if name not in known}
    training = _check_others(others, known, problems, takes_training=takes_training)
    made = _build(options, values, training, given, problems)
    if made is None or problems:
        return None, problems
    return Resolved(made, {name: given[name].source if name in given else DEFAULT for name in [*known, *training]}), []


@dataclass(frozen=True)
class _Given:
    """A value, its source, and what messages call it: ``--lora_r``, or ``tunesmith.yaml: lora_r``."""

    value: object
    source: str
    label: str


def _merge(sources: Sequence[Source], known: Mapping[str, Option], problems: list[str], *, takes_training: bool) -> dict[str, _Given]:
    """Put the sources over each other; a nested ``training`` counts as if its entries were given flat."""
    merged: dict[str, _Given] = {}
    for source, mapping in sources:
        nested = mapping.get("training")
        flat = {**nested, **{k: v for k, v in mapping.items() if k != "training"}} if isinstance(nested, Mapping) else mapping
        found: dict[str, _Given] = {}
        for written, value in flat.items():
            name = _name_of_today(written) if takes_training and written not in known else written
            label = f"--{written}" if source == FLAG else f"{source}: {written}"
            if value is None:
                continue
            if name in found:
                problems.append(f"{label} and {found[name].label} are the same")
            found[name] = _Given(value, source, label)
        merged.update(found)
    return merged


def _name_of_today(name: str) -> str:
    from tunesmith.config.training_arguments import name_of_today

    return name_of_today(name)


def _check_others(
    given: Mapping[str, _Given], known: Mapping[str, Option], problems: list[str], *, takes_training: bool
) -> dict[str, object]:
    """Check the names that ``known`` lacks: training arguments where they are taken, mistakes elsewhere."""
    if not given:
        return {}
    if not takes_training:
        for name, one in given.items():
            close = nearest(name, known)
            problems.append(f"{one.label} is not known" + (f". {close}" if close else ""))
        return {}
    from tunesmith.config.training_arguments import convert_training_arguments

    raw = {name: one.value for name, one in given.items()}
    values, found = convert_training_arguments(raw, own=known, label=lambda name: given[name].label)
    problems += found
    return values


def _build(
    options: type[OptionsT], values: Mapping[str, object], training: Mapping[str, object], given: Mapping[str, _Given], problems: list[str]
) -> OptionsT | None:
    """Make the options; what pydantic finds wrong (limits) is added to the problems."""
    data: dict[str, Any] = {**values, "training": dict(training)} if "training" in options.model_fields else dict(values)
    try:
        return options(**data)
    except ValidationError as error:
        for problem in error.errors(include_url=False):
            name = str(problem["loc"][0])
            problems.append(f"{given[name].label if name in given else name} is {problem['input']}: {_lower(problem['msg'])}")
        return None


def _lower(message: str) -> str:
    message = message.removeprefix("Input ")
    return message[:1].lower() + message[1:]
