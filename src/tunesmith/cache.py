"""Where tunesmith keeps what it can make again: the sample model, tokenized data."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

from tunesmith.errors import OutputError


def cache_folder() -> Path:
    """Return tunesmith's cache folder (``$TUNESMITH_CACHE``, or the user's cache of this operating system), made when absent.

    Raises:
        OutputError: when it can't be made.
    """
    chosen = os.environ.get("TUNESMITH_CACHE")
    folder = Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_path("tunesmith"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        fix = "Set TUNESMITH_CACHE to a folder that can be written"
        raise OutputError(f"the cache folder {folder} can't be made: {reason}", fix=fix) from error
    return folder
