"""Logging and warnings of the command line, in one place: tunesmith's words on stderr, other libraries one level quieter."""

from __future__ import annotations

import logging
import os
import sys
import warnings


def configure_logging(level: int) -> None:
    """Show tunesmith's messages from ``level`` on, plain, on stderr; other libraries' from one level above.

    Warnings of other libraries (``warnings.warn``) are shown at debug level only: they speak to programmers.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s" if level > logging.DEBUG else "%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=max(level + 10, logging.ERROR if level >= logging.INFO else 0), handlers=[handler], force=True)
    logging.getLogger("tunesmith").setLevel(level)
    if level > logging.DEBUG:
        warnings.simplefilter("ignore")
        _quiet_libraries()


def _quiet_libraries() -> None:
    """Set what libraries with a logger or a progress bar of their own read from the environment; a user's own setting stays."""
    for name, value in {
        "TRANSFORMERS_VERBOSITY": "error",
        "DATASETS_VERBOSITY": "error",
        "HF_HUB_VERBOSITY": "error",
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONWARNINGS": "ignore",
    }.items():
        os.environ.setdefault(name, value)
