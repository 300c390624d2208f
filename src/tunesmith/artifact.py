"""Folders that are written whole or not at all, and the manifest that says what a folder is."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tunesmith.errors import OutputError


@contextlib.contextmanager
def new_folder(final: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give an empty hidden folder beside ``final`` to write into; it gets its final name when the block ends well, else it is removed.

    Raises:
        OutputError: when something already has the final name (unless ``overwrite``), or nothing can be written there.
    """
    final = Path(os.path.abspath(final))
    if not overwrite and final.exists():
        raise OutputError(f"{final} already exists", fix="Give another folder, or --overwrite")
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{final.name}.", dir=final.parent))
    try:
        yield temporary
        os.replace(temporary, final)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
