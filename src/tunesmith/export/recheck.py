"""Certifying a folder that was exported before: its files by their hashes, its parent by its hash, and everything else anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tunesmith.artifact import Manifest, hash_file, read_manifest
from tunesmith.errors import ModelError, UsageError
from tunesmith.export.certificate import Certificate, Examination
from tunesmith.export.evaluation_set import MOST_ROWS
from tunesmith.export.plan import Plan
from tunesmith.export.proof import prove, runs_here
from tunesmith.export.source import ExportSource, read_source
from tunesmith.export.targets import Recipe, Target
from tunesmith.export.tolerances import Tolerances

_KINDS = ("onnx", "gguf")


def recheck(
    folder: Path,
    path: str,
    *,
    adapter_path: str | Path | None = None,
    revision: str | None = None,
    token: str | None = None,
    trust_remote_code: bool = False,
    rows: Sequence[Mapping[str, Any]] | None = None,
    max_rows: int = MOST_ROWS,
    tolerances: Tolerances | None = None,
) -> Certificate:
    """Score an exported folder again beside what it was made from.

    Args:
        folder: exported by ``auto-opt``.
        path, adapter_path, revision, token, trust_remote_code: what it was exported from.
        rows, max_rows, tolerances: see :func:`tunesmith.export.certificate.certify`.

    Raises:
        ModelError: when ``folder`` is no export, or a part can't be read.
    """
    manifest = _export_of(folder)
    source = read_source(path, adapter_path=adapter_path, revision=revision, token=token, trust_remote_code=trust_remote_code)
    plan = _plan_of(manifest, folder)
    if not runs_here(plan):
        raise UsageError(f"{folder} is for {plan.target.provider}, which this machine can't run", fix="Certify it where it runs")
    with Examination(source.rows if rows is None else rows, tolerances=tolerances, max_rows=max_rows) as examination:
        found = prove(source, folder, plan, examination)
    stage = found.stages[-1].name
    changed = [f"{stage}: {text}" for text in (*_another_parent(manifest, source, path), *_changed_files(manifest, folder))]
    return replace(found, failures=(*changed, *found.failures))


def _export_of(folder: Path) -> Manifest:
    manifest = read_manifest(folder) if folder.is_dir() else None
    if manifest is None or manifest.kind not in _KINDS or not isinstance(manifest.extra.get("export"), Mapping):
        what = "is not a folder that auto-opt made" if folder.is_dir() else "does not exist"
        raise ModelError(f"{folder} {what}, so there is nothing to certify", fix="For example: tunesmith certify EXPORT RUN")
    return manifest


def _plan_of(manifest: Manifest, folder: Path) -> Plan:
    """How the folder was made, as its manifest says."""
    export: Mapping[str, Any] = manifest.extra["export"]
    try:
        recipe = export["recipe"]
        made = Recipe(recipe["builder"], recipe["precision"], dict(recipe["options"]))
        beside = recipe.get("adapter")
        target = Target(str(export["device"]), str(export["provider"]), str(export["precision"]))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ModelError(f"the manifest of {folder} doesn't say how it was made: {error}", fix="Export the model again") from error
    return Plan(target, made, None if beside in (None, "merged") else beside)


def _another_parent(manifest: Manifest, source: ExportSource, path: str) -> list[str]:
    if manifest.parent_hash in (None, source.parent_hash):
        return []
    what = "adapter" if source.places.adapter is not None else "model"
    return [f"it was exported from another {what} than that of {path} (its manifest names {str(manifest.parent_hash)[:12]})"]


def _changed_files(manifest: Manifest, folder: Path) -> list[str]:
    """Files that are not those that were certified."""
    certified = (manifest.extra.get("certificate") or {}).get("files") or {}
    sentences = []
    for name, digest in certified.items():
        file = folder / name
        if not file.is_file():
            sentences.append(f"{name} is missing")
        elif hash_file(file) != digest:
            sentences.append(f"{name} was changed after it was certified")
    return sentences
