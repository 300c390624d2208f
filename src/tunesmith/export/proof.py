"""The proof of an export: its stages, from the tuned model in PyTorch to the folder that was just built, scored and compared.

The reference is the tuned model in float32 with its adapter beside the weights, as it was trained; all that follows has to be that model.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.artifact import hash_file, model_files
from tunesmith.errors import UserError
from tunesmith.export.blame import audit_gguf, audit_onnx
from tunesmith.export.certificate import Certificate, certify
from tunesmith.export.evaluation_set import MOST_ROWS
from tunesmith.export.source import ExportSource, float_model
from tunesmith.export.stages import Stage
from tunesmith.export.tolerances import Judged, Tolerances
from tunesmith.methods.adapters import load_adapter
from tunesmith.models.load import load_model
from tunesmith.runtime.load import base_head, load, runtime_around

if TYPE_CHECKING:
    from tunesmith.runtime.protocol import Runtime

log = logging.getLogger(__name__)

ONNX_FILE, GGUF_FILE = "model.onnx", "model.gguf"
#: Recipes that round to the nearest value; others move weights on purpose.
_NEAREST = frozenset({"", "default", "rtn"})


def prove(
    source: ExportSource,
    folder: Path,
    *,
    precision: str,
    provider: str = "CPUExecutionProvider",
    options: Mapping[str, Any] | None = None,
    on_grid: bool = False,
    rows: Sequence[Mapping[str, Any]] | None = None,
    tolerances: Tolerances | None = None,
    max_rows: int = MOST_ROWS,
) -> Certificate:
    """Score an exported folder beside what it was made from.

    Args:
        source: what was exported.
        folder: the result, complete: its runtime is loaded from it.
        precision: of its weights: ``fp32``, ``fp16``, ``int8``, ``int4``, or a format of llama.cpp.
        provider: what runs it; a folder for hardware that isn't here is not run, which is said.
        options: of the recipe, as its builder takes them.
        on_grid: base and adapter were shipped as they were trained on the quantization grid.
        rows: to score on; by default those that the run held out.
        tolerances: what may be lost.
        max_rows: most rows.

    Raises:
        UserError: when a stage can't be loaded or asked.
    """
    stages = [*_stages_before(source), exported_stage(source, folder, precision, provider, options or {}, on_grid=on_grid)]
    found = certify(stages, source.rows if rows is None else rows, tolerances=tolerances, max_rows=max_rows)
    return replace(found, files=_hashes(folder))


def _hashes(folder: Path) -> dict[str, str]:
    """Return the hashes of the files that make the folder answer as it does."""
    return {file.name: hash_file(file) for file in model_files(folder)}


def exported_stage(
    source: ExportSource,
    folder: Path,
    precision: str,
    provider: str = "CPUExecutionProvider",
    options: Mapping[str, Any] | None = None,
    *,
    on_grid: bool = False,
) -> Stage:
    """Return the stage of an exported folder: what it is called, how it is judged, and how its weights are compared."""
    gguf = (folder / GGUF_FILE).is_file()
    judged: Judged = "grid" if on_grid else "float" if precision in ("fp32", "f32") else "quantized"
    name = "gguf" if gguf else "onnx-fp32" if precision == "fp32" else "quantized"
    algorithm = str((options or {}).get("int4_algo_config") or (options or {}).get("algo_config") or "")
    rounded = algorithm in _NEAREST
    file = folder / (GGUF_FILE if gguf else ONNX_FILE)
    return Stage(
        name=name,
        load=lambda: load(folder),
        judged=judged,
        files=file if gguf else folder,
        audit=_auditor(source, file, rounded=rounded, on_grid=on_grid) if file.is_file() else None,
        not_run=_missing(provider),
    )


def _auditor(source: ExportSource, file: Path, *, rounded: bool, on_grid: bool) -> Any:
    def tuned() -> Any:
        return float_model(source)

    if file.suffix == ".gguf":
        return lambda: audit_gguf(file, tuned)
    return lambda: audit_onnx(file, tuned, rounded=rounded, on_grid=on_grid)


def _missing(provider: str) -> str:
    """Return why what was built can't be run here; empty when it can."""
    if provider == "CPUExecutionProvider":
        return ""
    import onnxruntime

    return "" if provider in onnxruntime.get_available_providers() else f"there is no {provider} on this machine"


def _stages_before(source: ExportSource) -> list[Stage]:
    """Return base, tuned model and, where an adapter was merged, the merged model."""
    places = source.places
    tuned = Stage("tuned", lambda: _unmerged(source))
    if places.adapter is None:
        return [*_base_of_full_run(source), tuned]
    base = [Stage("base", lambda: _base(source))] if source.task is None or not source.task.head else []
    merged = [] if source.grid is not None else [Stage("merged", lambda: _around(source, float_model(source)))]
    return [*base, tuned, *merged]


def _around(source: ExportSource, model: Any) -> Runtime:
    return runtime_around(model.eval(), source.tokenizer, source.template, source.task)


def _base(source: ExportSource) -> Runtime:
    head = base_head(source.places, source.task, source.tokenizer)
    trusted = source.trust_remote_code
    return _around(source, load_model(source.places.base, dtype="float32", device="cpu", trust_remote_code=trusted, task=head))


def _unmerged(source: ExportSource) -> Runtime:
    """The tuned model as it was trained: the adapter beside the weights, all of it in float32."""
    runtime: Any = _base(source)
    if source.places.adapter is None:
        return _around(source, runtime.model)
    return _around(source, load_adapter(runtime.model, source.places.adapter))


def _base_of_full_run(source: ExportSource) -> list[Stage]:
    """The model that a full fine-tuning started from, where it can still be found; a head's base can't do its task."""
    manifest = source.manifest
    if manifest is None or not manifest.base or (source.task is not None and source.task.head):
        return []
    named = manifest.base
    try:
        from tunesmith.runtime.places import find_places

        find_places(named)
    except UserError as error:
        log.info("The base model is not scored: %s", error)
        return []
    return [Stage("base", lambda: load(named, dtype="float32", device="cpu").with_template(source.template, source.task))]
