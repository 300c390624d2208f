"""Exports of which nothing is known but the graph: an ONNX model (made simpler, quantized), and a PyTorch model by script."""

from __future__ import annotations

import time
from pathlib import Path

from tunesmith.artifact import Manifest, check_output_folder, hash_file, hash_folder, installed_versions, new_folder, write_manifest
from tunesmith.errors import UsageError
from tunesmith.export.folder import export_record, model_sizes
from tunesmith.export.onnx_input import build_from_onnx
from tunesmith.export.plan import Plan, Request
from tunesmith.export.result import Optimized, check_memory
from tunesmith.export.scripted import build_scripted
from tunesmith.export.targets import choose_target, recipe_for

_UNASKED = "Nothing was scored: what a graph alone is for isn't known."
_COMPARED = "The graph's outputs for the script's example are the model's; nothing else was scored."


def optimize_graph(
    path: Path | None, script: str | None, final: Path, request: Request, *, limit: int | None, overwrite: bool
) -> Optimized:
    """Write a folder with the graph for the target.

    Args:
        path: an ONNX file or a folder with some; None with ``script``.
        script: ``file.py:function``, see :func:`tunesmith.export.scripted.load_script`.
        final: the folder to write.
        request: target and dimensions; the rest is refused.
        limit: bytes that the model has to fit into.
        overwrite: replace an earlier result.

    Raises:
        UsageError: for options that have no effect.
        ModelError: when the graph can't be read or made.
        OutputError: when the folder can't be written.
    """
    _refuse(request, "an ONNX model" if script is None else "a model by script")
    precision = "fp32" if request.precision in (None, "auto") else request.precision
    target = choose_target("head", device=request.device, provider=request.provider, precision=precision)
    plan = Plan(target, recipe_for("head", target), None, request.dimensions)
    check_output_folder(final, overwrite=overwrite)
    started = time.monotonic()
    with new_folder(final, overwrite=overwrite) as folder:
        if script is not None:
            build_scripted(script, folder, target.precision, request.dimensions)
        elif path is not None:
            build_from_onnx(path, folder, target.precision, request.dimensions)
        size = sum(model_sizes(folder).values())
        check_memory(size, limit, target)
        parent = None if path is None else hash_folder(path) if path.is_dir() else hash_file(path)
        extra = {"export": export_record(folder, plan), "certificate": None}
        base = script or str(path)
        write_manifest(folder, Manifest(kind="onnx", base=base, parent_hash=parent, versions=installed_versions(), extra=extra))
    words = (
        f"{target.precision} for {target.provider} on {target.device}: {size / 1e6:.1f} MB.",
        _UNASKED if script is None else _COMPARED,
    )
    return Optimized(final, target, size, time.monotonic() - started, None, words)


def _refuse(request: Request, what: str) -> None:
    names = ("use_ort_genai", "use_model_builder", "block_size", "adapter_precision")
    idle = [f"--{name}" for name in names if getattr(request, name) not in (None, False)]
    idle += ["--extra_options"] if request.extra_options else []
    if request.file_format == "gguf":
        raise UsageError(f"--format gguf can't be made of {what}", fix="Name the model that it was exported from")
    if request.exporter == "model_builder":
        idle.append("--exporter model_builder")
    if idle:
        raise UsageError(f"{', '.join(idle)} has no effect on {what}", fix="Leave it out")
