"""Whether an export is still the model that it was made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tunesmith.export.certificate import Certificate


def certify(
    exported: str | Path,
    model: str | Path,
    *,
    adapter_path: str | Path | None = None,
    revision: str | None = None,
    token: str | None = None,
    trust_remote_code: bool = False,
    data_files: Sequence[str] | None = None,
    rows: Sequence[Mapping[str, Any]] | None = None,
    max_rows: int = 100,
    tolerances: Mapping[str, float] | None = None,
) -> Certificate:
    """Score an exported folder beside the model that it was made from; ``Certificate.check()`` raises where something was lost.

    Args:
        exported: a folder that :func:`optimize` wrote.
        model, adapter_path, revision, token, trust_remote_code: what it was exported from.
        data_files, rows: to score on; by default those that the run held out.
        max_rows: most rows, spread evenly.
        tolerances: what may be lost, by name; see ``tunesmith.export.tolerances.Tolerances``.

    Raises:
        UserError: when a part can't be read or loaded, or the folder is no export.
    """
    from tunesmith.export.recheck import recheck
    from tunesmith.export.tolerances import Tolerances
    from tunesmith.models.quiet import silence_kernel_advice

    silence_kernel_advice()
    if data_files is not None:
        from tunesmith.evaluate.test_set import read_test_set

        rows = [dict(row) for row in read_test_set([str(file) for file in data_files], None)]
    return recheck(
        Path(exported).expanduser(),
        str(model),
        adapter_path=adapter_path,
        revision=revision,
        token=token,
        trust_remote_code=trust_remote_code,
        rows=rows,
        max_rows=max_rows,
        tolerances=Tolerances(**(tolerances or {})),
    )
