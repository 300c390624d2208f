"""What a command is to the command line, and the way all of them go: parse, help or refuse, set up logging, run."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tunesmith.cli.parse import Parsed, parse
from tunesmith.config.command_line import COMMAND_LINE_OPTIONS, HELP_TRAINING, parse_log_level
from tunesmith.config.declare import Kind, Option, Options, declared_options
from tunesmith.config.resolve import FLAG, check
from tunesmith.config.values import parse_boolean
from tunesmith.errors import ConfigError, UsageError

Given = dict[str, Any]


@dataclass(frozen=True)
class Command:
    """One command.

    Attributes:
        name, description, usage, examples: what its help shows.
        options: the class that declares its options.
        run: called with what the command line gave (checked, but still text) and whether JSON is wanted; returns the exit status.
        positionals: which options the words without a flag are, by their number.
        words: the list option that takes all words without a flag, however many.
        has_json: whether its result can be printed as JSON.
    """

    name: str
    description: str
    usage: tuple[str, ...]
    options: type[Options]
    run: Callable[[Given, bool], int]
    positionals: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    words: str | None = None
    examples: tuple[str, ...] = ()
    has_json: bool = True

    @property
    def takes_training_arguments(self) -> bool:
        """Whether every field of ``transformers.TrainingArguments`` is a flag of this command too."""
        return "training" in self.options.model_fields

    def all_options(self) -> dict[str, Option]:
        """Return the command's own options and those of every command."""
        common = dict(COMMAND_LINE_OPTIONS)
        if not self.has_json:
            del common["json"]
        if self.takes_training_arguments:
            common[HELP_TRAINING.name] = HELP_TRAINING
        return declared_options(self.options) | common


def run_command(command: Command, words: Sequence[str]) -> int:
    """Run a command with the words behind its name; returns the exit status.

    Raises:
        ConfigError: with everything that is wrong with the words.
    """
    parsed = parse(words, command.all_options(), others=_training_kinds if command.takes_training_arguments else None)
    for name in ("help", HELP_TRAINING.name):
        if _take_switch(parsed, name):
            print(_help(command, name))
            return 0
    _place_positionals(command, parsed)
    as_json = command.has_json and _take_switch(parsed, "json")
    if _take_switch(parsed, "debug"):
        os.environ["TUNESMITH_DEBUG"] = "1"
    level = _take_level(parsed)
    _, problems = check(command.options, [(FLAG, parsed.given)])
    if parsed.problems or problems:
        raise ConfigError(dict.fromkeys([*parsed.problems, *problems]))
    from tunesmith.cli.logs import configure_logging

    configure_logging(level)
    return command.run(parsed.given, as_json)


def _help(command: Command, which: str) -> str:
    from tunesmith.cli.help import command_help, training_help

    return command_help(command) if which == "help" else training_help(command)


def _training_kinds() -> Mapping[str, Kind]:
    from tunesmith.config.training_arguments import training_kinds

    return training_kinds()


def _place_positionals(command: Command, parsed: Parsed) -> None:
    """Give the words without a flag to the options that take them; more than these are a mistake."""
    words = parsed.positionals
    if command.words is not None and words:
        before = parsed.given.get(command.words, [])
        parsed.given[command.words] = [*(before if isinstance(before, list) else [before]), *words]
        return
    most = max(command.positionals, default=0)
    names = command.positionals.get(min(len(words), most), ())
    for name, word in zip(names, words, strict=False):
        if parsed.given.setdefault(name, word) != word:
            parsed.problems.append(f"'{word}' and --{name} {parsed.given[name]} are the same option, given twice")
    parsed.problems += [f"unexpected argument '{word}'" for word in words[len(names) :]]


def _take_switch(parsed: Parsed, name: str) -> bool:
    """Take one of the command line's own booleans out of what was given."""
    try:
        return parse_boolean(parsed.given.pop(name, False))
    except ValueError as error:
        parsed.problems.append(f"--{name} {error}")
        return False


def _take_level(parsed: Parsed) -> int:
    try:
        return parse_log_level(str(parsed.given.pop("log_level", "1")))
    except UsageError as error:
        parsed.problems.append(str(error))
        return parse_log_level("1")
