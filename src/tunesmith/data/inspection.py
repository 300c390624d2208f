"""A first look at a file before anything reads it: its content's hash, and whether it is text that can be read at all."""

from __future__ import annotations

import codecs
import gzip
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from tunesmith.data.cache import CHUNK_BYTES
from tunesmith.errors import DataError

if TYPE_CHECKING:
    import xxhash

#: How a file's ending says what is in it; ``.gz`` may follow the text formats.
KINDS = {
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".txt": "text",
    ".text": "text",
    ".md": "text",
}
TEXT_KINDS = ("json", "csv", "text")
_CONVERT = {".xlsx": "csv", ".xls": "csv", ".yaml": "json", ".yml": "json", ".xml": "json", ".pdf": "txt", ".docx": "txt"}


@dataclass(frozen=True)
class FileLook:
    """A file's kind (``json``, ``csv``, ``text``, ``parquet``, ``arrow``) and the hash of its content."""

    path: Path
    kind: str
    content_hash: str


def kind_of(path: Path) -> str | None:
    """Return what a file's ending says is in it, None for an ending that isn't known."""
    suffixes = path.suffixes[-2:] if path.suffix == ".gz" else path.suffixes[-1:]
    kind = KINDS.get(suffixes[0].lower()) if suffixes else None
    return kind if path.suffix != ".gz" or kind in TEXT_KINDS else None


def open_bytes(path: Path) -> IO[bytes]:
    """Open a file for reading bytes, unpacking ``.gz``."""
    return cast("IO[bytes]", gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


def look_at(path: Path, *, kind: str | None = None) -> FileLook:
    """Check that a file can be read, in one pass over it.

    Args:
        path: the file.
        kind: what is in it, when its ending shouldn't decide.

    Raises:
        DataError: when it is absent, empty, of an unknown kind, or text in another encoding than UTF-8.
    """
    import xxhash

    check_exists(path)
    kind = kind or kind_of(path)
    if kind is None:
        known = ", ".join(sorted({*KINDS}))
        fix = f"Save it as .{_CONVERT.get(path.suffix.lower(), 'jsonl')}, or say what it is: --data_name json --data_files {path.name}"
        raise DataError(f"the file type '{path.suffix}' isn't known; known: {known}", file=str(path), fix=fix)
    digest = xxhash.xxh3_128(kind.encode() + path.suffix.encode())
    size = 0
    decoder = codecs.getincrementaldecoder("utf-8")() if kind in TEXT_KINDS else None
    try:
        with open_bytes(path) as file:
            size = _read_through(file, digest, decoder, path)
    except OSError as error:
        raise DataError(f"the file can't be read: {error.strerror or error}", file=str(path)) from error
    if not size:
        raise DataError("the file is empty", file=str(path), fix='Write one row a line, e.g. {"text": "…", "label": "…"}')
    return FileLook(path, kind, digest.hexdigest())


def _read_through(file: IO[bytes], digest: xxhash.xxh3_128, decoder: codecs.IncrementalDecoder | None, path: Path) -> int:
    """Feed a file to the digest and the decoder; return the number of its bytes that are no white space."""
    size, lines, offset = 0, 1, 0
    chunk = b"first"
    while chunk:
        chunk = file.read(CHUNK_BYTES)
        digest.update(chunk)
        size = size or len(chunk.strip().lstrip(codecs.BOM_UTF8))
        if decoder is not None:
            # A letter may have begun in the chunk before; its bytes come first in what an error shows.
            pending = len(decoder.getstate()[0])
            try:
                decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                raise _not_utf8(path, error, lines, offset - pending) from error
            lines += chunk.count(b"\n")
        offset += len(chunk)
    return size


def _not_utf8(path: Path, error: UnicodeDecodeError, lines: int, offset: int) -> DataError:
    """Return the error; ``lines`` and ``offset`` are those of the first byte that the decoder was given."""
    utf16 = offset == 0 and error.object[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    encoding = "UTF-16" if utf16 else "LATIN1"
    line = lines + error.object[: error.start].count(b"\n")
    fix = f"Convert it: iconv -f {encoding} -t UTF-8 {path.name} > utf8-{path.name}"
    found = f"byte 0x{error.object[error.start]:02x} at position {offset + error.start}"
    return DataError(f"line {line} is not UTF-8: {found}", file=str(path), fix=fix)


def check_exists(path: Path) -> None:
    """Check that a file is there.

    Raises:
        DataError: when it isn't, with the nearest name in its folder.
    """
    if path.is_file():
        return
    folder = path.parent
    if not folder.is_dir():
        raise DataError(f"there is no such file, nor a folder {folder}", file=str(path), fix="Check the path")
    names = sorted(file.name for file in folder.iterdir() if file.is_file() and kind_of(file))
    shown = ", ".join(names[:8]) + (" …" if len(names) > 8 else "")
    stems = {name.partition(".")[0]: name for name in names}
    close = get_close_matches(path.name.partition(".")[0], stems, n=1)
    fix = f"{folder} has: {shown}" if names else f"{folder} has no data files"
    fix = f"Did you mean '{stems[close[0]]}'?" if close else fix
    raise DataError("there is no such file", file=str(path), fix=fix)
