"""An append-only file of JSON lines that survives a crash at any moment: what was written stays, half a last line is dropped and said."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from tunesmith.artifact import naming_full_disk
from tunesmith.errors import DataError, OutputError

log = logging.getLogger(__name__)

Record = dict[str, Any]


def read_json_log(path: Path) -> list[Record]:
    """Return the records of a log, without a last line that was only half written; no file is no records.

    Raises:
        DataError: when it can't be read, or a line before the last is no JSON object.
    """
    records, _ = _read(path)
    return records


def json_bytes(record: Mapping[str, Any]) -> bytes:
    """Return a record as one line of JSON in UTF-8; lone halves of surrogate pairs, which UTF-8 has no bytes for, become ``?``."""
    return (json.dumps(record, ensure_ascii=False, default=str) + "\n").encode("utf-8", errors="replace")


class JsonLog:
    """A log open for appending.

    Attributes:
        path: the file.
        records: what was in it when it was opened.
    """

    def __init__(self, path: Path) -> None:
        """Open a log, made when absent; a half-written last line is cut off.

        Raises:
            DataError: see :func:`read_json_log`.
            OutputError: when it can't be written.
        """
        self.path = path
        self.records, whole = _read(path)
        new = not path.exists()
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
            self._mend(whole)
            if new:
                _sync_folder(path.parent)
        except OSError as error:
            raise OutputError(f"{path} can't be written: {error.strerror or error}", fix="Check its permissions") from error

    def append(self, record: Mapping[str, Any]) -> None:
        """Write a record and wait until the disk has it.

        Raises:
            OutputError: when it can't be written; the file is then as it was before.
        """
        before = os.lseek(self._file, 0, os.SEEK_END)
        try:
            with naming_full_disk(self.path):
                _write_all(self._file, json_bytes(record))
                os.fsync(self._file)
        except BaseException as error:
            os.ftruncate(self._file, before)
            if isinstance(error, OSError):
                raise OutputError(f"{self.path} can't be written: {error.strerror or error}") from error
            raise

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def __enter__(self) -> JsonLog:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _mend(self, whole: int) -> None:
        """Cut off what is behind the last whole record, and end that with a line break if an editor took it away."""
        os.ftruncate(self._file, min(whole, os.fstat(self._file).st_size))
        if not whole:
            return
        os.lseek(self._file, whole - 1, os.SEEK_SET)
        if os.read(self._file, 1) != b"\n":
            os.write(self._file, b"\n")


def _read(path: Path) -> tuple[list[Record], int]:
    """Return the records, and the bytes that they take."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return [], 0
    except OSError as error:
        raise DataError(f"can't be read: {error.strerror or error}", file=str(path)) from error
    *lines, rest = content.split(b"\n")
    records = [_parsed(path, number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    if not rest.strip(b"\0 \r\t"):
        return records, len(content) - len(rest)
    try:
        return [*records, _parsed(path, len(lines) + 1, rest)], len(content)
    except DataError:
        log.warning("%s: the last line was only half written when the program ended; it is dropped: %s", path, _shown(rest))
        return records, len(content) - len(rest)


def _parsed(path: Path, number: int, line: bytes) -> Record:
    try:
        value = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"line {number} is not JSON: {error}", file=str(path), fix="Mend or remove that line") from error
    if not isinstance(value, dict):
        raise DataError(f"line {number} is no JSON object", file=str(path), fix="Mend or remove that line")
    return value


def _write_all(file: int, data: bytes) -> None:
    while data:
        data = data[os.write(file, data) :]


def _sync_folder(folder: Path) -> None:
    """Make a new file's name survive a power cut too, where folders can be synchronized."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _shown(rest: bytes) -> str:
    return repr(rest[:80].decode("utf-8", errors="replace"))
