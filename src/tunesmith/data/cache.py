"""Where tokenized and converted data is kept, and under which key: the content itself, never a name or a date."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def cache_folder() -> Path:
    """Return tunesmith's cache folder: ``$TUNESMITH_CACHE``, or the user's cache of this operating system."""
    chosen = os.environ.get("TUNESMITH_CACHE")
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_path("tunesmith"))


def datasets_cache() -> Path:
    """Return the folder where `datasets` keeps the Arrow files it makes."""
    return cache_folder() / "datasets"


def quiet_datasets() -> None:
    """Keep the progress bars and logs of `datasets` off the terminal."""
    import datasets

    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
