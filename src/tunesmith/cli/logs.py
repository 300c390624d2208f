"""Logging and warnings of the command line, in one place: tunesmith's words on stderr, other libraries quieter."""

from __future__ import annotations

import logging
import os
import sys

# What libraries with a logger, a progress bar or a C++ log of their own read from the environment; a user's own setting stays.
QUIET_LIBRARIES = {
    "TRANSFORMERS_VERBOSITY": "error",
    "DATASETS_VERBOSITY": "error",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
}


def configure_logging(level: int) -> None:
    """Show tunesmith's messages from ``level`` on, on stderr; other libraries' errors only, or one level above at debug level.

    What libraries say through ``warnings.warn`` is a warning of theirs. Call this before such a library is imported.
    """
    others = level + 10 if level == logging.DEBUG else max(level + 10, logging.ERROR)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s" if level > logging.DEBUG else "%(levelname)s %(name)s: %(message)s"))
    # A filter, since a library may set the level of its own loggers (bitsandbytes does), over which the root's level has no say.
    handler.addFilter(lambda record: record.levelno >= (level if record.name.partition(".")[0] == "tunesmith" else others))
    logging.basicConfig(level=min(level, others), handlers=[handler], force=True)
    logging.captureWarnings(True)
    if level > logging.DEBUG:
        for name, value in QUIET_LIBRARIES.items():
            os.environ.setdefault(name, value)
