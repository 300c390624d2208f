"""What is kept to be read again, under keys made of the content itself: never of a name or a date, so nothing stale is used.

Arrow files of the rows lie in ``datasets/KEY``, tokenized rows in ``tokenized/KEY``, both in tunesmith's cache folder.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.cache import cache_folder
from tunesmith.errors import OutputError

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

#: How the names of an entry's own files begin.
ARROW_PREFIX = "rows"
HASH_ROWS = 10_000
CHUNK_BYTES = 1 << 20
#: The least recently used entries of a kind are removed beyond this.
MOST_BYTES = 20 * 2**30


def quiet_datasets() -> None:
    """Keep the progress bars and logs of `datasets` off the terminal."""
    import datasets

    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)


def content_hash(dataset: Dataset) -> str:
    """Return a hash of a data set's columns, types and values, wherever its rows came from.

    Rows are hashed in batches as Arrow's stream format writes them; memory stays that of a batch.
    """
    import numpy as np
    import xxhash

    from tunesmith.data.provenance import data_columns

    digest = xxhash.xxh3_128()
    rows = dataset.select_columns(data_columns(dataset))
    digest.update(repr(sorted(rows.features.items())).encode())
    for table in rows.with_format("arrow").iter(batch_size=HASH_ROWS):
        # Taken, not sliced: a slice of a larger table brings bits of its neighbours along.
        copied = table.take(np.arange(len(table))).combine_chunks().replace_schema_metadata(None)
        for batch in copied.to_batches():
            digest.update(memoryview(batch.serialize()))
    return digest.hexdigest()


def tokenizer_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return a hash of everything about a tokenizer that decides which ids a text gets."""
    import xxhash

    digest = xxhash.xxh3_128(type(tokenizer).__name__.encode())
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        digest.update(repr(sorted(tokenizer.get_vocab().items())).encode())
    else:
        state = json.loads(backend.to_str())
        # The last call sets these two; they are no part of what the tokenizer is.
        digest.update(json.dumps({key: value for key, value in state.items() if key not in ("truncation", "padding")}).encode())
    digest.update(repr((sorted(tokenizer.special_tokens_map.items(), key=str), tokenizer("a").input_ids)).encode())
    return digest.hexdigest()


class Store:
    """A folder of entries named by key; each is written aside and appears whole or not at all."""

    def __init__(self, kind: str) -> None:
        self.folder = cache_folder() / kind

    def find(self, key: str) -> Path | None:
        """Return the entry of a key, None when there is none."""
        entry = self.folder / key
        if not any(entry.glob(f"{ARROW_PREFIX}*.arrow")):  # emptied by somebody, or of an older layout
            shutil.rmtree(entry, ignore_errors=True)
            return None
        with contextlib.suppress(OSError):
            os.utime(entry)
        return entry

    @contextlib.contextmanager
    def writing(self) -> Iterator[Path]:
        """Give a temporary folder beside the entries, removed when it has not been kept.

        Raises:
            OutputError: when the cache folder can't be written to.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            temporary = Path(tempfile.mkdtemp(prefix=".writing-", dir=self.folder))
        except OSError as error:
            fix = "Set TUNESMITH_CACHE to a folder that can be written"
            raise OutputError(f"the cache folder {self.folder} can't be written: {error.strerror or error}", fix=fix) from error
        try:
            yield temporary
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def keep(self, temporary: Path, key: str) -> Path:
        """Give a finished folder its key; one that another process kept meanwhile stays."""
        entry = self.folder / key
        with contextlib.suppress(OSError):
            os.replace(temporary, entry)
        if not entry.is_dir():
            raise OutputError(f"the cache entry {entry} can't be made", fix="Set TUNESMITH_CACHE to a folder that can be written")
        self._prune(entry)
        return entry

    def _prune(self, newest: Path) -> None:
        """Remove entries, longest unused first, while there is more than ``MOST_BYTES``."""
        entries = [path for path in self.folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
        sizes = {path: sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) for path in entries}
        total = sum(sizes.values())
        for path in sorted(entries, key=lambda path: path.stat().st_mtime):
            if total <= MOST_BYTES or path == newest:
                break
            shutil.rmtree(path, ignore_errors=True)
            total -= sizes[path]


def open_arrow(entry: Path) -> Dataset:
    """Return the memory-mapped rows of an entry's files ``rows*.arrow``, in the order of their names.

    `datasets` writes files of its own beside those it has open; they are none of the entry's.
    """
    from datasets import Dataset, concatenate_datasets

    parts = [Dataset.from_file(str(file)) for file in sorted(entry.glob(f"{ARROW_PREFIX}*.arrow"))]
    return parts[0] if len(parts) == 1 else concatenate_datasets(parts)


def temporary_folder() -> Path:
    """Return a folder that lasts as long as this process, for memory-mapped rows that are not kept."""
    folder = tempfile.mkdtemp(prefix="tunesmith-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
