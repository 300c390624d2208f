"""The entry point: finds the command, and turns every error into one line and an exit status."""

from __future__ import annotations

import errno
import importlib
import io
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tunesmith import __version__
from tunesmith.errors import TunesmithError, UsageError, nearest

if TYPE_CHECKING:
    from tunesmith.cli.command import Command

# name -> (module:attribute of its Command, what it does); nothing is imported to list them.
COMMANDS = {
    "finetune": ("tunesmith.cli.finetune:COMMAND", "fine-tune a model on a file of examples"),
    "generate": ("tunesmith.cli.generate:COMMAND", "let a model answer a prompt, or a file of prompts"),
    "chat": ("tunesmith.cli.chat:COMMAND", "talk with a model"),
    "rate": ("tunesmith.cli.rate:COMMAND", "let people compare the answers of models, blind, on a local page"),
    "compare": ("tunesmith.cli.compare:COMMAND", "say which of two models is better on the same rows, and how certain that is"),
    "report": ("tunesmith.cli.report:COMMAND", "write the page that tells a run, or compares several"),
    "diagnose": ("tunesmith.cli.diagnose:COMMAND", "say why a run's result is poor, and what to try next"),
    "evaluate": ("tunesmith.cli.evaluate:COMMAND", "measure a model on a test set or benchmarks"),
    "merge": ("tunesmith.cli.merge:COMMAND", "put an adapter into its model: one plain model folder"),
    "auto-opt": ("tunesmith.cli.auto_opt:COMMAND", "make the files that run on a device, and prove that nothing was lost"),
    "optimize": ("tunesmith.cli.auto_opt:OPTIMIZE", "the same as auto-opt"),
    "quantize": ("tunesmith.cli.auto_opt:QUANTIZE", "make the files of a quantized model"),
    "capture-onnx-graph": ("tunesmith.cli.auto_opt:CAPTURE", "make the ONNX graph of a model in floating point"),
    "certify": ("tunesmith.cli.certify:COMMAND", "say whether an exported folder is still the model it was made from"),
    "bench": ("tunesmith.cli.bench:COMMAND", "measure how fast artifacts read and write, side by side"),
    "tune-session-params": ("tunesmith.cli.tune_session_params:COMMAND", "find the threads and options that make an export fast here"),
    "data check": ("tunesmith.cli.data_check:COMMAND", "find what is wrong with data, by file and line"),
    "data clean": ("tunesmith.cli.data_clean:COMMAND", "mend rows, and take out those that can't be mended, with the reason"),
    "data split": ("tunesmith.cli.data_split:COMMAND", "divide rows into training, validation and test files"),
    "data convert": ("tunesmith.cli.data_convert:COMMAND", "write rows in another format or kind of file"),
    "data preview": ("tunesmith.cli.data_preview:COMMAND", "show rows as the model will see them, and what is learnt of them"),
    "data augment": ("tunesmith.cli.data_augment:COMMAND", "make more training rows by small changes"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: 0, 2 for a user's mistake, 1 for ours, 130 for Ctrl-C.

    Args:
        argv: the words behind ``tunesmith``; those of this process by default.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    _write_any_text()
    try:
        status = _dispatch(words)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # The reader (head, less) is gone; without this Python complains again while it shuts down.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt as interrupt:
        # No error: the user wanted it. Training raises its own, which says what is saved and how to go on.
        print(f"tunesmith: {' '.join(str(interrupt).split()) or 'interrupted'}", file=sys.stderr)
        return 130
    except TunesmithError as error:
        return _report(str(error), error.exit_status, error)
    except OSError as error:
        return _report(*_os_error(error), error)
    except MemoryError as error:
        return _report("memory ran out. Try a smaller --batch_size, a smaller model or a shorter input", 2, error)
    except Exception as error:
        return _report(f"internal error: {type(error).__name__}: {error}; run with --debug for the traceback", 1, error)


def _write_any_text() -> None:
    """Make stdin and stdout cope with any text: UTF-8 in pipes and files, a replacement where a terminal lacks a character."""
    for stream in (sys.stdin, sys.stdout):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding=None if stream.isatty() else "utf-8", errors="replace")


def find_command(name: str) -> Command:
    """Import and return a command.

    Raises:
        UsageError: when there is none of this name; the nearest one is named.
    """
    if name not in COMMANDS:
        raise UsageError(f"unknown command '{name}'; there are: {', '.join(COMMANDS)}", fix=nearest(name, COMMANDS) or None)
    module, _, attribute = COMMANDS[name][0].partition(":")
    command: Command = getattr(importlib.import_module(module), attribute)
    return command


def _dispatch(words: list[str]) -> int:
    first = words[0] if words else "--help"
    if first in ("--version", "-V", "version"):
        print(f"tunesmith {__version__}")
        return 0
    if first in ("--help", "-h", "help"):
        return _help(words[1:])
    if first == "--debug":
        os.environ["TUNESMITH_DEBUG"] = "1"
        return _dispatch(words[1:])
    if first.startswith("-"):
        raise UsageError(f"{first} stands before the command", fix="Flags come behind it: tunesmith COMMAND [options]")
    if first in _groups() and (len(words) == 1 or words[1] in ("--help", "-h", "help")):
        return _help([first])
    name, rest = _split_name(words)
    command = find_command(name)
    from tunesmith.cli.command import run_command

    return run_command(command, rest)


def _groups() -> set[str]:
    """Return the words that begin several commands: ``data`` of ``data check``."""
    return {name.partition(" ")[0] for name in COMMANDS if " " in name}


def _split_name(words: list[str]) -> tuple[str, list[str]]:
    """Return the command's name, which is two words in a group, and what stands behind it."""
    length = 2 if words[0] in _groups() and len(words) > 1 else 1
    return " ".join(words[:length]), words[length:]


def _help(words: list[str]) -> int:
    from tunesmith.cli import help as help_text

    if words and words[0] in _groups() and len(words) == 1:
        listed = {name: summary for name, (_, summary) in COMMANDS.items() if name.startswith(f"{words[0]} ")}
        print(help_text.group_help(words[0], listed))
    elif words and not words[0].startswith("-"):
        print(help_text.command_help(find_command(_split_name(words)[0])))
    else:
        print(help_text.top_help({name: summary for name, (_, summary) in COMMANDS.items()}))
    return 0


def _os_error(error: OSError) -> tuple[str, int]:
    """Return a sentence and the exit status for an error of the operating system; what a user can mend is a user's error."""
    place = f" {error.filename}" if error.filename else ""
    if error.errno == errno.ENOSPC:
        return f"the disk is full{': ' if place else ''}{place.strip()}. Free some space, or choose another folder", 2
    if isinstance(error, (PermissionError, FileNotFoundError, IsADirectoryError, NotADirectoryError, FileExistsError)):
        return f"{(error.strerror or str(error)).lower()}:{place}", 2
    return f"internal error: {type(error).__name__}: {error}; run with --debug for the traceback", 1


def _report(text: str, status: int, error: BaseException) -> int:
    if os.environ.get("TUNESMITH_DEBUG", "0") not in ("", "0"):
        import traceback

        traceback.print_exception(error)
    print(f"tunesmith: error: {' '.join(text.split())}", file=sys.stderr)
    return status
