"""Models as files for a device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from tunesmith.export.low_rank_nodes import AdapterPrecision
    from tunesmith.export.result import Optimized


def optimize(
    path: str | None,
    output_path: str,
    *,
    adapter_path: str | None = None,
    revision: str | None = None,
    token: str | None = None,
    trust_remote_code: bool = False,
    model_script: str | None = None,
    format: Literal["onnx", "gguf"] = "onnx",  # noqa: A002 - the flag's name
    device: str | None = None,
    provider: str | None = None,
    precision: str | None = None,
    use_ort_genai: bool | None = None,
    use_model_builder: bool | None = None,
    exporter: str | None = None,
    block_size: int | None = None,
    memory: str | int | None = None,
    dim_param: Sequence[str] | None = None,
    dim_value: Sequence[int] | None = None,
    extra_options: Mapping[str, Any] | None = None,
    adapter_precision: AdapterPrecision | None = None,
    recover: int | None = None,
    proof: bool = True,
    data_files: Sequence[str] | None = None,
    limit: int = 100,
    task_drop: float | None = None,
    min_quality: float | None = None,
    perplexity_rise: float = 0.03,
    merged_logits: float = 1e-3,
    float_top1: float = 0.999,
    grid_top1: float = 0.99,
    accept_loss: bool = False,
    trials: int | None = None,
    max_minutes: float | None = None,
    max_size_mb: float | None = None,
    max_latency_ms: float | None = None,
    calibration_files: Sequence[str] | None = None,
    overwrite: bool = False,
) -> Optimized:
    """Write a folder that runs on a device, and prove that nothing was lost; the options are those of ``tunesmith auto-opt``.

    Args:
        path: the folder of a run, a model folder, a GGUF file, a hub id, an ONNX model; None: the sample model, or ``model_script``.
        output_path: the folder to write; it appears when it is whole and proven, and ``report.html`` in it tells what was measured.
        task_drop, min_quality: the part of the task's metric that may be lost (0.01 unless one is given), or the part that has to be kept.
        perplexity_rise, merged_logits, float_top1, grid_top1: further tolerances, see ``tunesmith.export.tolerances.Tolerances``.
        trials, max_minutes, max_size_mb, max_latency_ms, calibration_files: of a search for a recipe, see docs/recipes.md.
        recover: steps in which the adapter of a run learns back what the grid of 4 bits costs it, see :func:`tunesmith.api.recover`.

    Raises:
        UserError, ExportHarm: see :func:`tunesmith.export.optimize.optimize`.
    """
    from tunesmith.errors import UsageError
    from tunesmith.export.optimize import Proof
    from tunesmith.export.optimize import optimize as run
    from tunesmith.export.plan import Request, dimensions_of
    from tunesmith.export.search.options import SearchOptions, tolerance_of
    from tunesmith.export.tolerances import Tolerances
    from tunesmith.models.quiet import silence_kernel_advice
    from tunesmith.report.export_page import write_export_report

    silence_kernel_advice()
    calibration = tuple(calibration_files) if calibration_files is not None else None
    search = SearchOptions(trials, max_minutes, max_size_mb, max_latency_ms, calibration)
    tolerances = Tolerances(
        merged_logits=merged_logits,
        float_top1=float_top1,
        task_drop=tolerance_of(min_quality, task_drop, usual=Tolerances.task_drop),
        perplexity_rise=perplexity_rise,
        grid_top1=grid_top1,
    )
    if recover is not None and search.given:
        message = f"{', '.join(search.given)} and --recover: an adapter that was recovered ships as it was trained, without a search"
        raise UsageError(message, fix="Give one of them")
    if recover is not None:
        path, adapter_path = _recovered(path, adapter_path, output_path, steps=recover, gguf=format == "gguf", overwrite=overwrite), None
    request = Request(
        file_format=format,
        device=device,
        provider=provider,
        precision=precision,
        use_ort_genai=use_ort_genai,
        use_model_builder=use_model_builder,
        exporter=exporter,
        block_size=block_size,
        dimensions=dimensions_of(dim_param, dim_value),
        extra_options=extra_options or {},
        adapter_precision=adapter_precision,
    )
    files = tuple(data_files) if data_files is not None else None
    made = run(
        path,
        output_path,
        request,
        Proof(proof, files, limit, tolerances, accept_loss),
        adapter_path=adapter_path,
        revision=revision,
        token=token,
        trust_remote_code=trust_remote_code,
        model_script=model_script,
        memory=memory,
        overwrite=overwrite,
        search=search,
    )
    write_export_report(made.folder)
    return made


def _recovered(path: str | None, adapter_path: str | None, output_path: str, *, steps: int, gguf: bool, overwrite: bool) -> str:
    """Return the run that :func:`tunesmith.api.recover` makes of the run named, beside the folder to write."""
    from tunesmith.api.recovering import recover
    from tunesmith.artifact import check_output_folder
    from tunesmith.runtime.places import run_folder

    final = Path(output_path).expanduser()
    check_output_folder(final, overwrite=overwrite)  # before minutes of training, not after
    named = Path(adapter_path if adapter_path is not None else path or "").expanduser()
    run, new = run_folder(named) or named, final.with_name(f"{final.name}-recovered")
    return str(recover(run, new, steps=steps, overwrite=overwrite, quant_type="gguf-q4_0" if gguf else "onnx-int4").output_path)
