"""ONNX in, ONNX out: a graph that exists already is simplified, given fixed shapes and quantized; nothing else is known about it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunesmith.artifact import MANIFEST
from tunesmith.errors import ModelError, UsageError
from tunesmith.export.int8 import quantize_int8
from tunesmith.export.simplified import fix_dimensions, simplify

PRECISIONS = ("fp32", "int8")
_GENAI_CONFIG = "genai_config.json"
_NOT_COPIED = frozenset({MANIFEST, "README.md"})
_QUANTIZED = frozenset({"MatMulInteger", "MatMulNBits", "QLinearMatMul", "DequantizeLinear", "GatherBlockQuantized"})


def is_onnx(path: Path) -> bool:
    """Return whether a path is an ONNX file, or a folder whose models are ONNX files."""
    return path.suffix == ".onnx" if path.is_file() else path.is_dir() and any(path.glob("*.onnx"))


def build_from_onnx(source: Path, folder: Path, precision: str, dimensions: Mapping[str, int] | None = None) -> list[Path]:
    """Write simplified and perhaps quantized graphs into ``folder``, with all that lies beside them.

    Args:
        source: an ONNX file, or a folder with some.
        folder: exists, empty.
        precision: ``fp32`` to simplify only, or ``int8``.
        dimensions: fixed sizes of dimensions by name.

    Returns: the new files.
    Raises:
        UsageError: for another precision, dimensions that no input has, a model of onnxruntime-genai, and one that is quantized already.
        ModelError: when a file can't be read.
    """
    if precision not in PRECISIONS:
        message = f"--precision {precision} can't be made of an ONNX model"
        raise UsageError(message, fix=f"There is: {', '.join(PRECISIONS)}; for others name the model that it was exported from")
    if source.is_dir() and (source / _GENAI_CONFIG).is_file():
        message = f"{source} is made for onnxruntime-genai, whose graphs are quantized while they are built"
        raise UsageError(message, fix="Name the model that it was exported from")
    files = [source] if source.is_file() else sorted(source.glob("*.onnx"))
    graphs = {file: _read(file) for file in files}
    _check(graphs, precision, dimensions or {})
    for file in source.iterdir() if source.is_dir() else ():
        if file.is_file() and file.suffix not in (".onnx", ".data") and file.name not in _NOT_COPIED:
            shutil.copyfile(file, folder / file.name)
    with tempfile.TemporaryDirectory(prefix=".graph-", dir=folder) as temporary:
        return [_build(file, folder / file.name, Path(temporary), precision, dimensions or {}) for file in files]


def _build(file: Path, final: Path, temporary: Path, precision: str, dimensions: Mapping[str, int]) -> Path:
    import onnx

    raw = temporary / file.name
    onnx.save(onnx.load(file), raw, save_as_external_data=file.with_name(f"{file.name}.data").is_file(), location=f"{file.name}.data")
    fix_dimensions(raw, dimensions)
    simple = final if precision == "fp32" else temporary / f"simple-{file.name}"
    simplify(raw, simple)
    if precision == "int8":
        quantize_int8(simple, final)
    return final


def _read(file: Path) -> Any:
    import onnx

    try:
        model = onnx.load(file, load_external_data=False)
    except Exception as error:  # protobuf's DecodeError among them, a class of a package that onnx alone needs
        raise ModelError(f"{file} can't be read as ONNX: {error}", fix="Export it again, or copy it again") from error
    if not model.graph.node:
        raise ModelError(f"{file} holds no graph", fix="Export it again, or copy it again")
    return model.graph


def _check(graphs: Mapping[Path, Any], precision: str, dimensions: Mapping[str, int]) -> None:
    named = {
        dimension.dim_param
        for graph in graphs.values()
        for item in graph.input
        for dimension in item.type.tensor_type.shape.dim
        if dimension.dim_param
    }
    if unknown := [name for name in dimensions if name not in named]:
        fix = f"They are: {', '.join(sorted(named))}" if named else "All its shapes are fixed already"
        raise UsageError(f"--dim_param {unknown[0]} is no dimension of the model's inputs", fix=fix)
    for file, graph in graphs.items():
        found = next((node.op_type for node in graph.node if node.op_type in _QUANTIZED), None)
        if found is not None and precision == "int8":
            raise UsageError(f"{file} is quantized already (it has {found})", fix="Name the model that it was exported from")
