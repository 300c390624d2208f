"""What a finished training leaves: adapter/, model/, manifest.json and README.md, each whole or not there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from tunesmith.artifact import Manifest, new_folder, write_file_atomically, write_manifest
from tunesmith.data.templates import Template
from tunesmith.methods.protocol import Method
from tunesmith.models.save import place_model, save_plain_model
from tunesmith.models.sources import ModelSource
from tunesmith.train.model_card import model_card

TEMPLATE_FILE = "template.json"


def save_results(
    model: nn.Module, method: Method, *, source: ModelSource, tokenizer: Any, template: Template, folder: Path, manifest: Manifest
) -> None:
    """Write everything that others load, the manifest last: a folder with a manifest is a finished run.

    Args:
        model: trained, with the weights that are kept.
        method: how it was trained.
        source: the base model.
        tokenizer, template: as used in training.
        folder: the run's folder.
        manifest: what it is.
    """
    if method.saves_adapter:
        with new_folder(folder / "adapter", part_of_run=True) as adapter:
            method.save(model, adapter)
            tokenizer.save_pretrained(adapter)
            write_template(adapter, template)
        with new_folder(folder / "model", part_of_run=True) as base:
            place_base(model, method, source, tokenizer, base)
    else:
        with new_folder(folder / "model", part_of_run=True) as whole:
            method.save(model, whole)
            tokenizer.save_pretrained(whole)
            write_template(whole, template)
    write_file_atomically(folder / "README.md", model_card(manifest))
    write_manifest(folder, manifest)


def place_base(model: nn.Module, method: Method, source: ModelSource, tokenizer: Any, folder: Path) -> None:
    """Put the base model beside the adapter: links to its files, or, trained on a grid or read from GGUF, the weights it was trained on."""
    if method.grid() is not None:
        from tunesmith.methods.qlora import dequantize_model

        save_plain_model(dequantize_model(model), tokenizer, folder)
    elif source.kind == "gguf":
        from tunesmith.models.load import load_model

        save_plain_model(load_model(source, dtype="float32", device="cpu"), tokenizer, folder)
    else:
        place_model(source.folder, folder)


def write_template(folder: Path, template: Template) -> None:
    """Keep the template and stop tokens beside the weights that were trained with them."""
    (folder / TEMPLATE_FILE).write_text(json.dumps(template.to_dict(), indent=2, ensure_ascii=False), encoding="utf-8")


def metrics_of(history: list[dict[str, float]], kept_step: int) -> Mapping[str, float]:
    """Return the validation figures before training and at the step that is kept, and the last training loss."""
    evaluations = {int(row["step"]): row for row in history if "eval_loss" in row}
    found: dict[str, float] = {}
    for prefix, row in (("base_", evaluations.get(0)), ("", evaluations.get(kept_step))):
        for name, value in (row or {}).items():
            if name.startswith("eval_") and name != "eval_runtime":
                found[prefix + name] = value
    losses = [row["loss"] for row in history if "loss" in row]
    if losses:
        found["train_loss"] = losses[-1]
    return found


def clear(folder: Path) -> None:
    """Remove what an earlier run left in ``folder``; other files of the user stay."""
    for name in ("adapter", "model", "checkpoints", "logs"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in ("manifest.json", "metrics.jsonl", "README.md", "cut_rows.jsonl"):
        (folder / name).unlink(missing_ok=True)
