"""The head of a GGUF file, read in a tenth of a second: which architecture it is, and whether all of it is there; the rest read once.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. The reader in the package ``gguf`` makes an array of every token of
the vocabulary and takes seconds; a first check needs none of that.
"""

from __future__ import annotations

import contextlib
import functools
import math
import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAGIC = b"GGUF"
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_DEFAULT_ALIGNMENT = 32


@dataclass(frozen=True)
class GgufHead:
    """What a GGUF file says about itself.

    Attributes:
        fields: the single values among its metadata (``general.architecture``, ``llama.context_length`` …); arrays are left out.
        num_tensors: weights in it.
        size_bytes: where the last weight ends; a shorter file is cut off.
    """

    fields: dict[str, Any]
    num_tensors: int
    size_bytes: int


def read_gguf_head(file: Path) -> GgufHead:
    """Read the head of a GGUF file of version 2 or 3.

    Raises:
        ValueError: when it is no such file, or is cut off inside its head.
    """
    with open(file, "rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            return _Cursor(data).head()
        except (struct.error, IndexError, KeyError, UnicodeDecodeError) as error:
            raise ValueError("its head is damaged or cut off") from error


@contextlib.contextmanager
def reading_once() -> Iterator[None]:
    """Inside the block transformers parses each GGUF file once: for configuration, tokenizer and weights it would do so every time.

    It also builds the table of tensor names anew for every weight. For a model of 135M parameters both together are half of the time.
    """
    import gguf

    reader, name_map = gguf.GGUFReader, gguf.get_tensor_name_map
    gguf.GGUFReader, gguf.get_tensor_name_map = functools.cache(reader), functools.cache(name_map)
    try:
        yield
    finally:
        gguf.GGUFReader, gguf.get_tensor_name_map = reader, name_map


class _Cursor:
    """Reads one value after another."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data, self._at = data, 0

    def head(self) -> GgufHead:
        magic, version, num_tensors, num_fields = self._unpack("4sIQQ")
        if magic != MAGIC or version not in (2, 3):
            raise ValueError(f"it starts with {magic!r}, version {version}")
        fields = {}
        for _ in range(num_fields):
            name = self._string()
            value = self._value(self._unpack("I")[0])
            if value is not None:
                fields[name] = value
        ends = [self._tensor_end() for _ in range(num_tensors)]
        alignment = int(fields.get("general.alignment", _DEFAULT_ALIGNMENT))
        start = math.ceil(self._at / alignment) * alignment
        return GgufHead(fields, num_tensors, start + max(ends) if ends else self._at)

    def _unpack(self, layout: str) -> tuple[Any, ...]:
        values = struct.unpack_from("<" + layout, self._data, self._at)
        self._at += struct.calcsize("<" + layout)
        return values

    def _string(self) -> str:
        (length,) = self._unpack("Q")
        self._at += length
        return self._data[self._at - length : self._at].decode("utf-8")

    def _value(self, kind: int) -> Any:
        """A scalar or text; ``None`` for an array, which is stepped over."""
        if kind == _STRING:
            return self._string()
        if kind != _ARRAY:
            return self._unpack(_SCALARS[kind])[0]
        item, length = self._unpack("IQ")
        if item in _SCALARS:
            self._at += length * struct.calcsize(_SCALARS[item])
        else:
            for _ in range(length):
                self._skip(item)
        return None

    def _skip(self, kind: int) -> None:
        if kind == _STRING:
            self._at += 8 + struct.unpack_from("<Q", self._data, self._at)[0]
        else:
            self._value(kind)

    def _tensor_end(self) -> int:
        """Bytes from the start of the weights to the end of this one."""
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

        self._string()
        (num_dimensions,) = self._unpack("I")
        shape = self._unpack(f"{num_dimensions}Q")
        kind, offset = self._unpack("IQ")
        try:
            block, size = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
        except (ValueError, KeyError) as error:
            raise ValueError(f"a weight has the unknown type {kind}") from error
        return int(offset) + int(math.prod(shape)) // int(block) * int(size)
