"""``tunesmith tune-session-params``: the threads and options with which this machine runs an export fastest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunesmith.cli.command import Command, Given
from tunesmith.cli.output import print_json
from tunesmith.config.bench import TuneSessionOptions
from tunesmith.config.resolve import FLAG, resolve
from tunesmith.errors import ConfigError

if TYPE_CHECKING:
    from tunesmith.evaluate.session_search import TunedSession


def run(given: Given, as_json: bool) -> int:
    """Search, and say what was gained."""
    from tunesmith import api

    options = resolve(TuneSessionOptions, [(FLAG, given)]).options
    if options.artifact is None:
        raise ConfigError(["--artifact is needed"], fix="For example: tunesmith tune-session-params int4")
    found = api.tune_session_params(
        options.artifact,
        prompt_tokens=options.prompt_tokens,
        new_tokens=options.new_tokens,
        repeats=options.repeats,
        trust_remote_code=options.trust_remote_code,
    )
    if as_json:
        print_json(found)
    else:
        _print(found)
    return 0


def _print(found: TunedSession) -> None:
    for options, seconds in found.trials:
        print(f"{seconds:8.3f} s  {', '.join(f'{name}={value}' for name, value in options.items())}")
    if found.written:
        print(f"Faster by {100 * found.gain:.0f} % than before; written into {found.path / 'genai_config.json'}.")
    else:
        print(f"Nothing is faster than what {found.path / 'genai_config.json'} has; it is unchanged.")


COMMAND = Command(
    name="tune-session-params",
    description="Search the threads and session options with which this machine runs an export fastest, and write them into it.",
    usage=("tunesmith tune-session-params FOLDER [options]",),
    options=TuneSessionOptions,
    run=run,
    positionals={1: ("artifact",)},
    examples=("tunesmith tune-session-params int4", "tunesmith tune-session-params int4 --prompt_tokens 32 --new_tokens 128"),
)
