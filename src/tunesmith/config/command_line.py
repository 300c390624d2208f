"""Options that every command of the command line has, and that no function of the Python interface needs."""

from __future__ import annotations

import logging

from tunesmith.config.declare import Option
from tunesmith.errors import UsageError, nearest

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR, "critical": logging.CRITICAL}

COMMAND_LINE_OPTIONS = {
    known.name: known
    for known in (
        Option("log_level", str, "value", "1", "How much is said: 0 debug, 1 info, 2 warning, 3 error, 4 critical; or a name.", "Output"),
        Option("json", bool, "boolean", False, "Print the result as JSON on stdout.", "Output"),
        Option("debug", bool, "boolean", False, "Show the traceback of an error, as TUNESMITH_DEBUG=1 in the environment does.", "Output"),
        Option("help", bool, "boolean", False, "Show this help.", "Output", short="h"),
    )
}

HELP_TRAINING = Option(
    "help_training",
    bool,
    "boolean",
    False,
    "List every field of transformers' TrainingArguments, each a flag of this command.",
    "Output",
)


def parse_log_level(text: str) -> int:
    """Return the level of ``logging`` for ``0`` to ``4`` or a name.

    Raises:
        UsageError: for anything else.
    """
    names = list(LEVELS)
    word = text.strip().lower()
    if word in LEVELS:
        return LEVELS[word]
    if word.isdecimal() and int(word) < len(names):
        return LEVELS[names[int(word)]]
    raise UsageError(f"--log_level is '{text}', not 0 to {len(names) - 1} or one of {', '.join(names)}", fix=nearest(word, names) or None)
