"""Tensors in the data file beside an ONNX graph: written one at a time, and copied from another file byte for byte."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from tunesmith.errors import ModelError

if TYPE_CHECKING:
    import numpy.typing as npt

    Contents = Mapping[str, Callable[[], npt.NDArray[Any]]]

#: Where tensors begin in the data file; large ones on a page, so that they can be mapped.
_ALIGNMENT, _PAGE, _LARGE = 64, 4096, 1 << 20
_COPIED_AT_ONCE = 1 << 22
_AGAIN = "Make the folder again"


def write_data(graph: Any, old: Path, file: Path, contents: Contents) -> None:
    """Write the data file of a graph, one tensor in memory at a time, and tell the graph where each lies.

    Args:
        graph: changed in place.
        old: the folder with the data files that its tensors lie in.
        file: to write.
        contents: what tensors are to hold, by their names; the others are copied.

    Raises:
        ModelError: when a data file is missing, or ends too early.
    """
    with file.open("wb") as out:
        for tensor in graph.initializer:
            if tensor.name in contents:
                values = np.ascontiguousarray(contents[tensor.name]())
                tensor.dims[:] = values.shape
                start = _start(out, values.nbytes)
                out.write(values.data)
            elif location(tensor):
                start = _start(out, int(_entry(tensor, "length")))
                _copy_tensor(tensor, old, out)
            else:
                continue  # a small one inside the graph
            _point_to(tensor, file.name, start, out.tell() - start)


def _start(out: BinaryIO, size: int) -> int:
    alignment = _PAGE if size >= _LARGE else _ALIGNMENT
    out.write(bytes(-out.tell() % alignment))
    return out.tell()


def _copy_tensor(tensor: Any, old: Path, out: BinaryIO) -> None:
    left = int(_entry(tensor, "length"))
    file = old / location(tensor)
    if not file.is_file():
        raise ModelError(f"{file} is missing, which holds the weights of {tensor.name}", fix=_AGAIN)
    with file.open("rb") as source:
        source.seek(int(_entry(tensor, "offset") or 0))
        while left:
            part = source.read(min(left, _COPIED_AT_ONCE))
            if not part:
                raise ModelError(f"{file} ends before the weights of {tensor.name}", fix=_AGAIN)
            out.write(part)
            left -= len(part)


def _entry(tensor: Any, key: str) -> str:
    return next((str(entry.value) for entry in tensor.external_data if entry.key == key), "")


def location(tensor: Any) -> str:
    """Return the file that a tensor lies in, beside the graph; the empty string where it lies in the graph itself."""
    return _entry(tensor, "location")


def _point_to(tensor: Any, file: str, offset: int, length: int) -> None:
    from onnx import TensorProto

    tensor.data_location = TensorProto.EXTERNAL
    del tensor.external_data[:]
    for key, value in (("location", file), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))
