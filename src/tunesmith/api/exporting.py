"""Models as files for a device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tunesmith.export.optimize import Optimized


def optimize(
    path: str | None,
    output_path: str,
    *,
    adapter_path: str | None = None,
    revision: str | None = None,
    token: str | None = None,
    trust_remote_code: bool = False,
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
    format: str = "onnx",  # noqa: A002 - the flag's name
    overwrite: bool = False,
) -> Optimized:
    """Write a folder that runs on a device; the options are those of ``tunesmith auto-opt``.

    Args:
        path: the folder of a run, a model folder, a GGUF file, a hub id; None for the sample model.
        output_path: the folder to write.

    Raises:
        UserError: see :func:`tunesmith.export.optimize.optimize`.
    """
    from tunesmith.export.optimize import optimize as run
    from tunesmith.models.quiet import silence_kernel_advice

    silence_kernel_advice()
    return run(
        path,
        output_path,
        adapter_path=adapter_path,
        revision=revision,
        token=token,
        trust_remote_code=trust_remote_code,
        device=device,
        provider=provider,
        precision=precision,
        use_ort_genai=use_ort_genai,
        use_model_builder=use_model_builder,
        exporter=exporter,
        block_size=block_size,
        memory=memory,
        dim_param=dim_param,
        dim_value=dim_value,
        extra_options=extra_options,
        format=format,
        overwrite=overwrite,
    )
