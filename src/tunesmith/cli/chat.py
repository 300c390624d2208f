"""``tunesmith chat``: a conversation, line by line, in any terminal or through a pipe."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

from tunesmith.cli.command import Command, Given
from tunesmith.cli.generate import load_options, sampling
from tunesmith.config.generate import ChatOptions
from tunesmith.config.resolve import FLAG, resolve
from tunesmith.errors import UserError

if TYPE_CHECKING:
    from tunesmith.runtime.chat import ChatSession

ASK = "> "


def run(given: Given, as_json: bool) -> int:
    """Load the model and talk until ``/quit``, the end of the input, or Ctrl-C at an empty line."""
    from tunesmith import api

    options = resolve(ChatOptions, [(FLAG, given)]).options
    session = api.chat(options.model_name_or_path, **load_options(options), system_prompt=options.system_prompt, **sampling(options))
    interactive = sys.stdin.isatty()
    if interactive:
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401  line editing and history of input(); Windows has none
        print(session.greeting(), file=sys.stderr)
    return talk(session, interactive=interactive)


def talk(session: ChatSession, *, interactive: bool) -> int:
    """Read lines and print answers; returns the exit status, 2 when a piped line was refused."""
    status = 0
    while not session.finished:
        try:
            line = input(ASK if interactive else "")
        except (EOFError, KeyboardInterrupt):
            if interactive:
                print()
            break
        try:
            answer(session, line)
        except UserError as error:
            print(f"tunesmith: error: {error}", file=sys.stderr)
            status = 0 if interactive else error.exit_status
    return status


def answer(session: ChatSession, line: str) -> None:
    """Print the answer to a line as it comes; Ctrl-C ends the answer, not the conversation."""
    said = False
    pieces = session.respond(line)
    try:
        for piece in pieces:
            said = said or bool(piece)
            print(piece, end="", flush=True)
    except KeyboardInterrupt:
        print(" …", end="")
    if said:
        print(flush=True)


COMMAND = Command(
    name="chat",
    description="Talk with a model, with the template and the stop tokens it was trained with. /reset forgets what was said, /quit leaves.",
    usage=("tunesmith chat [MODEL] [options]",),
    options=ChatOptions,
    run=run,
    positionals={1: ("model_name_or_path",)},
    examples=("tunesmith chat out", "tunesmith chat -m microsoft/Phi-4-mini-instruct -a out/adapter --temperature 0.7"),
    has_json=False,
)
