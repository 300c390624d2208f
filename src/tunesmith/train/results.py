"""What a finished training leaves: adapter/, model/, manifest.json and README.md, each whole or not there."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from tunesmith.artifact import MANIFEST, Manifest, new_folder, write_file_atomically, write_manifest
from tunesmith.data.task_file import TaskRecord, write_task
from tunesmith.data.template_file import write_template
from tunesmith.data.templates import Template
from tunesmith.methods.protocol import Method
from tunesmith.models.heads import Head, write_head_config
from tunesmith.models.save import place_model, save_plain_model
from tunesmith.models.sources import ModelSource
from tunesmith.run_folder import MODEL_CARD, OF_FINISHED_RUN
from tunesmith.train.answers import Example
from tunesmith.train.model_card import model_card, with_verdict


@dataclass(frozen=True)
class FinetuneResult:
    """What ``finetune`` returns.

    Attributes:
        output_path: the run's folder; ``adapter_path`` and ``model_path`` are in it (no adapter after ``full``).
        metrics: validation figures before (``base_…``) and after training, the last training loss.
        steps, kept_step: steps taken, and the one whose weights are kept.
        words: how it went, in sentences.
        examples: answers before and after.
        training_s: seconds of training steps; ``peak_memory_gib``: most memory held.
        verdict: whether it was worth it, as plain values; None where nobody judged.
        report_path: a page that tells all this, where one was written.
        writes_text: whether the model does; one that ends in a head scores labels, tags or pairs.
    """

    output_path: Path
    adapter_path: Path | None
    model_path: Path
    metrics: Mapping[str, float]
    steps: int
    kept_step: int
    words: tuple[str, ...]
    examples: tuple[Example, ...]
    training_s: float
    peak_memory_gib: float
    verdict: Mapping[str, Any] | None = None
    report_path: Path | None = None
    writes_text: bool = True


def save_results(
    model: nn.Module,
    method: Method,
    *,
    source: ModelSource,
    tokenizer: Any,
    template: Template | None,
    task: TaskRecord,
    head: Head,
    folder: Path,
    manifest: Manifest,
    words: Sequence[str] = (),
    examples: Sequence[Example] = (),
    resized: bool = False,
) -> None:
    """Write everything that others load, the manifest last: a folder with a manifest is a finished run.

    Args:
        model: trained, with the weights that are kept.
        method: how it was trained.
        source: the base model.
        tokenizer, template: as used in training; no template where a head reads the text as it is.
        task: what the model does; ``head``: what it ends in.
        folder: the run's folder.
        manifest: what it is.
        words, examples: how it went, for the model card.
        resized: the base was given rows for added tokens.
    """
    if template is not None and template.kind == "chat":  # so that other tools, which read it from the tokenizer, ask as training did
        tokenizer.chat_template = template.chat_template
    if method.saves_adapter:
        # a head's labels stand in the configuration of the base, so the base that the hub has won't do
        own_base = resized or method.grid() is not None or source.kind == "gguf" or bool(head.labels)
        name_base(model, source.name if source.kind == "hub" and not own_base else str((folder / "model").absolute()))
        with new_folder(folder / "adapter", part_of_run=True) as adapter:
            method.save(model, adapter)
            tokenizer.save_pretrained(adapter)
            write_what_for(adapter, template, task)
        with new_folder(folder / "model", part_of_run=True) as base:
            place_base(model, method, source, tokenizer, base, resized=resized)
            if head.labels:
                write_head_config(base, head)
    else:
        with new_folder(folder / "model", part_of_run=True) as whole:
            method.save(model, whole)
            tokenizer.save_pretrained(whole)
            write_what_for(whole, template, task)
    shown = [(example.prompt, example.before, example.after) for example in examples]
    card = model_card(manifest, base_folder=source.folder, words=words, examples=shown)
    write_file_atomically(folder / MODEL_CARD, card)
    write_manifest(folder, manifest)


def tell_verdict(folder: Path, words: Sequence[str]) -> None:
    """Put the verdict on a finished run, in sentences, onto its model card."""
    file = folder / MODEL_CARD
    write_file_atomically(file, with_verdict(file.read_text(encoding="utf-8"), words))


def write_what_for(folder: Path, template: Template | None, task: TaskRecord) -> None:
    """Keep beside the weights what they were trained for."""
    if template is not None:
        write_template(folder, template)
    write_task(folder, task)


def name_base(model: nn.Module, name: str) -> None:
    """Name the base that the adapter belongs to, as plain peft looks it up: the hub's name, or the folder beside the adapter."""
    wrapped: Any = model
    base = wrapped.get_base_model() if hasattr(model, "get_base_model") else wrapped
    base.name_or_path = name
    for config in getattr(model, "peft_config", {}).values():
        config.base_model_name_or_path = name


def place_base(model: nn.Module, method: Method, source: ModelSource, tokenizer: Any, folder: Path, *, resized: bool) -> None:
    """Put the base model beside the adapter: links to its files, or, trained on a grid or read from GGUF, the weights it was trained on."""
    if method.grid() is not None:
        from tunesmith.methods.dequantized import dequantize_model

        save_plain_model(dequantize_model(model), tokenizer, folder)
    elif source.kind == "gguf" or resized:
        from tunesmith.methods.added_tokens import add_token_rows
        from tunesmith.models.load import load_model

        base = load_model(source, dtype="float32", device="cpu")
        add_token_rows(base, len(tokenizer))
        save_plain_model(base, tokenizer, folder)
    else:
        place_model(source.folder, folder)


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
    for name in (MANIFEST, *OF_FINISHED_RUN):
        (folder / name).unlink(missing_ok=True)
