"""Base model and adapter as one model."""

from __future__ import annotations

from pathlib import Path


def merge(
    path: str,
    output_path: str,
    *,
    adapter_path: str | None = None,
    revision: str | None = None,
    token: str | None = None,
    trust_remote_code: bool = False,
    overwrite: bool = False,
) -> Path:
    """Write one plain model folder that answers as base and adapter do together, merged in float32; returns the folder.

    Raises:
        UserError: see ``tunesmith.runtime.merge``.
    """
    from tunesmith.models.quiet import silence_kernel_advice
    from tunesmith.runtime.merge import merge as merge_folders

    silence_kernel_advice()
    return merge_folders(
        path,
        output_path,
        adapter_path=adapter_path,
        revision=revision,
        token=token,
        trust_remote_code=trust_remote_code,
        overwrite=overwrite,
    )
