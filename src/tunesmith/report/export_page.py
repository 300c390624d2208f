"""``report.html`` of an exported folder: what it is, what every stage of the export scored, and what was lost."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.artifact import Manifest, read_manifest, write_file_atomically
from tunesmith.errors import ModelError
from tunesmith.export.certificate_table import columns_of
from tunesmith.report.page import checked_path, render
from tunesmith.report.run_files import run_name, short_name
from tunesmith.report.search_charts import search_charts
from tunesmith.run_folder import REPORT

if TYPE_CHECKING:
    from tunesmith.export.search.result import SearchResult

_KINDS = ("onnx", "gguf")
_TOLERANCES = {
    "merged_logits": "A merge: largest difference of a logit",
    "float_top1": "Without quantization: least share of positions with the same likeliest token",
    "grid_top1": "Trained on the grid: least share of written tokens that stay the same",
    "task_drop": "Part of the task's metric that may be lost",
    "perplexity_rise": "Part by which the perplexity of right answers may rise, where no metric decides",
}


def is_export(folder: Path) -> bool:
    """Return whether a folder is one that ``auto-opt`` made."""
    manifest = read_manifest(folder) if folder.is_dir() else None
    return manifest is not None and manifest.kind in _KINDS


def write_export_report(folder: Path, path: Path | None = None, *, overwrite: bool = False) -> Path:
    """Write the page of an exported folder, and return its path.

    Args:
        folder: made by ``auto-opt``.
        path: of the page; ``report.html`` in the folder by default, where an older one is replaced.
        overwrite: replace ``path`` when it is there.

    Raises:
        ModelError: when it is no exported folder.
        OutputError: when it can't be written.
    """
    manifest = read_manifest(folder)
    if manifest is None or manifest.kind not in _KINDS:
        raise ModelError(f"{folder} is not a folder that auto-opt made")
    path = folder / REPORT if path is None else checked_path(path, overwrite=overwrite)
    write_file_atomically(path, export_page(folder, manifest))
    return path


def export_page(folder: Path, manifest: Manifest) -> str:
    """Return the page.

    Raises:
        ModelError: for a certificate that can't be read.
    """
    from tunesmith.export.certificate import Certificate  # loads torch, which other pages do without

    values = manifest.extra.get("certificate")
    try:
        certificate = Certificate.from_dict(values) if isinstance(values, Mapping) else None
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise ModelError(f"the certificate in {folder} can't be read: {error}", fix="Export the model again") from error
    search = searched(folder, manifest)
    columns = columns_of(certificate) if certificate else []
    return render(
        "export.html",
        title=f"{run_name(folder)}: {short_name(manifest.base)}, exported",
        what=what_was_exported(manifest),
        certificate=certificate,
        search=search,
        search_charts=search_charts(search) if search else [],
        headings=[name for name, _ in columns],
        rows=list(zip(*(cells for _, cells in columns), strict=True)),
        tolerances=[(words, certificate.tolerances.to_dict()[name]) for name, words in _TOLERANCES.items()] if certificate else [],
        made_with=", ".join(
            f"{name} {manifest.versions[name]}" for name in ("onnxruntime", "onnxruntime-genai") if name in manifest.versions
        ),
    )


def searched(folder: Path, manifest: Manifest) -> SearchResult | None:
    """Return the recipes that were tried for an export; None where none were.

    Raises:
        ModelError: when they can't be read.
    """
    values = (manifest.extra.get("export") or {}).get("search")
    if values is None:
        return None
    from tunesmith.export.search.result import SearchResult

    try:
        return SearchResult.from_dict(values)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise ModelError(f"the recipes in {folder} can't be read: {error}", fix="Export the model again") from error


def what_was_exported(manifest: Manifest) -> str:
    """Return the export in one paragraph."""
    export: Mapping[str, Any] = manifest.extra.get("export") or {}
    size = sum(value for value in (export.get("model_files") or {}).values() if isinstance(value, int))
    parts = [f"{short_name(manifest.base)}" + (f", tuned with {manifest.method}," if manifest.method else "")]
    parts.append(
        f"as {manifest.kind.upper()} in {export.get('precision', 'an unknown precision')} for {export.get('provider', 'any provider')}"
    )
    return " ".join(parts) + (f": {size / 1e6:,.1f} MB." if size else ".")
