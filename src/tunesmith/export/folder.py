"""What else an exported folder holds: template, task, manifest, how to run it, and what Foundry Local wants to know."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from tunesmith.artifact import Manifest, installed_versions, write_manifest
from tunesmith.data.task_file import write_task
from tunesmith.data.template_file import write_template
from tunesmith.errors import DataError
from tunesmith.export.decoder import GENAI_CONFIG
from tunesmith.export.plan import Plan
from tunesmith.export.readme import readme
from tunesmith.export.source import ExportSource

#: Foundry Local loads a folder that has it; see docs/export.md.
INFERENCE_MODEL = "inference_model.json"
#: Foundry Local puts the text of a message here.
_CONTENT = "{Content}"
_MODEL_SUFFIXES = frozenset({".onnx", ".data", ".gguf"})
_EXPORTERS = ("onnxruntime", "onnxruntime-genai", "onnx", "onnx-ir", "gguf")


def write_extras(
    source: ExportSource,
    folder: Path,
    plan: Plan,
    *,
    name: str,
    certificate: Mapping[str, Any] | None = None,
    search: Mapping[str, Any] | None = None,
) -> None:
    """Write everything beside the model itself.

    Args:
        source: what was exported.
        folder: with the model in it.
        plan: what it was made for, and how.
        name: the folder's final name.
        certificate: what :mod:`tunesmith.export.certificate` found.
        search: the recipes that were tried, where there was a choice.
    """
    write_template(folder, source.template)
    if source.task is not None:
        write_task(folder, source.task)
    if (folder / GENAI_CONFIG).is_file():
        write_inference_model(source, folder, name)
    run = source.manifest
    merged = source.places.adapter is not None
    export = export_record(folder, plan, adapter="merged" if merged else None)
    if search is not None:
        export["search"] = search
    manifest = Manifest(
        kind=plan.file_format,
        task=run.task if run else source.task.name if source.task else None,
        method=run.method if run else None,
        base=run.base if run else source.places.base.name,
        parent_hash=source.parent_hash,
        template=source.template.to_dict(),
        stop_tokens=source.template.stop_tokens,
        versions={**installed_versions(), **_exporter_versions()},
        grid=source.grid,
        extra={"export": export, "certificate": certificate},
    )
    write_manifest(folder, manifest)
    (folder / "README.md").write_text(readme(source, folder, plan, name=name), encoding="utf-8")


def export_record(folder: Path, plan: Plan, *, adapter: str | None = None) -> dict[str, Any]:
    """Return what the manifest says of an export: what it was made for, how, and its files.

    Args:
        folder: with the model in it.
        plan: how it was made.
        adapter: ``merged``, where there was one that doesn't stay beside the weights.
    """
    target, recipe = plan.target, plan.recipe
    return {
        "device": target.device,
        "provider": target.provider,
        "precision": target.precision,
        "format": plan.file_format,
        "recipe": {
            "builder": recipe.builder,
            "precision": recipe.precision,
            "options": dict(recipe.options),
            "adapter": plan.adapter_precision or adapter,
            "dimensions": dict(plan.dimensions),
            "ran_here": recipe.ran_here,
        },
        "model_files": model_sizes(folder),
    }


def model_sizes(folder: Path) -> dict[str, int]:
    """Return the bytes of each file that holds a part of the model."""
    return {file.name: file.stat().st_size for file in sorted(folder.iterdir()) if file.suffix in _MODEL_SUFFIXES}


def write_inference_model(source: ExportSource, folder: Path, name: str) -> None:
    """Write ``inference_model.json``: the name, and the prompt around what the user says.

    Foundry Local knows one text with ``{Content}`` in it a role, no Jinja: a template of several columns leaves the whole prompt to the
    caller.
    """
    prompt = _around_content(source)
    content = {"Name": name, "PromptTemplate": {"assistant": _CONTENT, "prompt": prompt}}
    (folder / INFERENCE_MODEL).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _around_content(source: ExportSource) -> str:
    columns = source.template.prompt_columns
    value: Any = {columns[0]: _CONTENT} if len(columns) == 1 else _CONTENT
    try:
        prompt = source.template.prompt(value, source.tokenizer)
    except DataError:
        return _CONTENT
    return prompt if prompt.count(_CONTENT) == 1 else _CONTENT


def _exporter_versions() -> dict[str, str]:
    found = {}
    for package in _EXPORTERS:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found
