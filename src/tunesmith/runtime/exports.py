"""Exported folders: which engine runs them, and what they can't be combined with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tunesmith.artifact import read_manifest
from tunesmith.errors import UsageError
from tunesmith.models.load import load_tokenizer
from tunesmith.models.sources import ModelSource
from tunesmith.runtime.genai_engine import GENAI_CONFIG
from tunesmith.runtime.gguf_runtime import load_gguf
from tunesmith.runtime.onnx_heads import load_graph
from tunesmith.runtime.onnx_runtime import load_genai

if TYPE_CHECKING:
    from tunesmith.runtime.protocol import Runtime

#: What runs a folder: onnxruntime-genai, onnxruntime alone, or llama.cpp.
ExportKind = Literal["genai", "onnx", "gguf"]


def export_kind(folder: Path) -> ExportKind | None:
    """Return what runs a folder; None for one that PyTorch loads, or that isn't there."""
    if not folder.is_dir():
        return None
    if (folder / GENAI_CONFIG).is_file():
        return "genai"
    manifest = read_manifest(folder)
    if manifest is None or manifest.kind not in ("onnx", "gguf"):
        return None
    return "onnx" if manifest.kind == "onnx" else "gguf"


def load_export(
    folder: Path,
    kind: ExportKind,
    *,
    adapter_path: str | Path | None = None,
    dtype: str = "auto",
    device: str = "auto",
    trust_remote_code: bool = False,
    revision: str | None = None,
    threads: int | None = None,
) -> Runtime:
    """Load an exported folder, ready to answer.

    Args:
        folder, kind: see :func:`export_kind`.
        adapter_path, dtype, revision: refused: they were decided by the export.
        device: for a GGUF file; other exports run on what they were made for.
        trust_remote_code: run Python code of the tokenizer.
        threads: by default as many as there are physical cores, or what ``genai_config.json`` names.

    Raises:
        UsageError: for arguments that an export can't heed.
        ModelError: when a part is missing or can't be read.
        DependencyError: when the engine isn't installed.
    """
    _check_arguments(folder, kind, adapter_path=adapter_path, dtype=dtype, device=device, revision=revision)
    if kind == "onnx":
        return load_graph(folder, threads=threads, trust_remote_code=trust_remote_code)
    tokenizer = load_tokenizer(ModelSource(str(folder), "folder", folder), trust_remote_code=trust_remote_code)
    if kind == "genai":
        return load_genai(folder, tokenizer, threads=threads)
    return load_gguf(folder, tokenizer, threads=threads, on_gpu=None if device == "auto" else device != "cpu")


def _check_arguments(
    folder: Path, kind: ExportKind, *, adapter_path: str | Path | None, dtype: str, device: str, revision: str | None
) -> None:
    if adapter_path is not None:
        fix = f"Export the model with its adapter: tunesmith auto-opt -m MODEL -a {adapter_path}"
        raise UsageError(f"{folder} is an export, which takes no adapter", fix=fix)
    if dtype != "auto":
        fix = "Leave --torch_dtype out, or export with another --precision"
        raise UsageError(f"{folder} is an export, whose precision was decided when it was made", fix=fix)
    if device not in ("auto", "cpu") and kind != "gguf":
        fix = "Leave --device out, or export with another --device"
        raise UsageError(f"{folder} is an export, which runs on what it was made for", fix=fix)
    if revision is not None:
        raise UsageError(f"--revision names a version of a model on the hub, but {folder} is not on the hub", fix="Leave --revision out")
