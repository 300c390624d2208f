"""What a command is to the command line, and the way all of them go: parse, help or refuse, set up logging, run."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tunesmith.cli.parse import Parsed, parse
from tunesmith.config.command_line import COMMAND_LINE_OPTIONS, parse_log_level
from tunesmith.config.declare import Kind, Option, Options, declared_options
from tunesmith.config.resolve import FLAG, check
from tunesmith.errors import ConfigError, UsageError

Given = dict[str, object]


@dataclass(frozen=True)
class Command:
    """One command.

    ``run`` gets what the command line gave (text, or True and False for flags without a value) and whether JSON is wanted,
    and returns the exit status.
    """

    name: str
    summary: str
    description: str
    usage: tuple[str, ...]
    options: type[Options]
    run: Callable[[Given, bool], int]
    positional: str | None = None
    examples: tuple[str, ...] = ()

    @property
    def takes_training_arguments(self) -> bool:
        """Whether every field of ``transformers.TrainingArguments`` is a flag of this command too."""
        return "training" in self.options.model_fields

    def all_options(self) -> dict[str, Option]:
        """Return the command's own options and those of every command."""
        return declared_options(self.options) | COMMAND_LINE_OPTIONS


def run_command(command: Command, words: Sequence[str]) -> int:
    """Run a command with the words behind its name; returns the exit status.

    Raises:
        ConfigError: with everything that is wrong with the words.
    """
    parsed = parse(words, command.all_options(), others=_training_kinds if command.takes_training_arguments else None)
    if _is_on(parsed.given.pop("help", False)):
        from tunesmith.cli.help import command_help

        print(command_help(command))
        return 0
    _place_positionals(command, parsed)
    shown = {name: parsed.given.pop(name, False) for name in ("json", "debug")}
    if _is_on(shown["debug"]):
        os.environ["TUNESMITH_DEBUG"] = "1"
    from tunesmith.cli.logs import configure_logging

    configure_logging(_level(parsed))
    if parsed.problems:
        _, problems = check(command.options, [(FLAG, parsed.given)])
        raise ConfigError(dict.fromkeys([*parsed.problems, *problems]))
    return command.run(parsed.given, _is_on(shown["json"]))


def _training_kinds() -> Mapping[str, Kind]:
    from tunesmith.config.training_arguments import training_kinds

    return training_kinds()


def _place_positionals(command: Command, parsed: Parsed) -> None:
    """Give the words without a flag to the option that takes them; more than one are a mistake."""
    words, name = parsed.positionals, command.positional
    if words and name is not None:
        if name in parsed.given:
            parsed.problems.append(f"'{words[0]}' and --{name} are the same option, given twice")
        parsed.given.setdefault(name, words[0])
        words = words[1:]
    parsed.problems += [f"unexpected argument '{word}'" for word in words]


def _level(parsed: Parsed) -> int:
    try:
        return parse_log_level(str(parsed.given.pop("log_level", "1")))
    except UsageError as error:
        parsed.problems.append(str(error))
        return parse_log_level("1")


def _is_on(value: object) -> bool:
    return value is True or str(value).lower() in ("true", "yes", "on", "1")
