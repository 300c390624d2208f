"""What is exported: found, read and described once, so that every exporter starts from the same model, template and stop tokens."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tunesmith.artifact import hash_file, hash_folder, read_manifest
from tunesmith.data.task_file import TaskRecord
from tunesmith.data.templates import Template
from tunesmith.errors import UsageError
from tunesmith.evaluate.finished_run import read_rows
from tunesmith.methods.adapters import BOTTLENECK_CONFIG, load_adapter, merge_adapter
from tunesmith.models.heads import is_encoder_decoder
from tunesmith.models.load import load_model
from tunesmith.runtime.load import base_head, headed_task, tokenizer_of
from tunesmith.runtime.places import Places, find_places, grid_warning, run_folder, stored_task, stored_template
from tunesmith.runtime.untuned import untuned_template

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from tunesmith.artifact import Manifest

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExportSource:
    """One model to export.

    Attributes:
        places: the base, and the adapter on it.
        run: the folder of the finished fine-tuning that it comes from, if any.
        kind: ``decoder`` writes text, ``head`` scores labels or embeds, ``encoder-decoder`` reads with one half and writes with the other.
        tokenizer: with the tokens added in training.
        template: how prompts become text and where answers stop; of a model that was not tuned here, its own chat template.
        task: what the model does, where that is written down.
        grid: the quantization grid that the frozen base was on while the adapter was trained, when base and adapter are still that pair.
        rows: held-out rows to measure on; may be empty.
        trust_remote_code: run Python code that comes with the model.
    """

    places: Places
    run: Path | None
    kind: Literal["decoder", "head", "encoder-decoder"]
    tokenizer: PreTrainedTokenizerBase
    template: Template
    task: TaskRecord | None
    grid: Mapping[str, Any] | None
    rows: tuple[Mapping[str, Any], ...]
    trust_remote_code: bool = False

    @property
    def manifest(self) -> Manifest | None:
        """What the run says about itself."""
        return read_manifest(self.run) if self.run is not None else None

    @property
    def parent_hash(self) -> str:
        """SHA-256 of what is exported: the adapter, where there is one, else the model."""
        base = self.places.base
        if self.places.adapter is not None:
            return hash_folder(self.places.adapter)
        return hash_file(base.path) if base.kind == "gguf" else hash_folder(base.folder)


def read_source(
    path: str | Path | None,
    *,
    adapter_path: str | Path | None = None,
    revision: str | None = None,
    token: str | None = None,
    trust_remote_code: bool = False,
) -> ExportSource:
    """Find what ``path`` is and read everything about it but the weights.

    Args:
        path: the folder of a run, a model folder, a GGUF file, a hub id, ``sample:NAME``; None for the sample model.
        adapter_path: an adapter to put on the model.

    Raises:
        ModelError: when a part is missing or can't be read.
        UsageError: for arguments that contradict each other, and for a checkpoint of a run.
    """
    places = find_places(path, adapter_path=adapter_path, revision=revision, token=token)
    if places.checkpoint is not None:
        raise UsageError(f"{path} is a checkpoint of a run", fix="Export the finished run, or resume it first")
    if warning := grid_warning(places):
        log.warning(warning)
    run = _run_of(places)
    tokenizer = tokenizer_of(places, trust_remote_code=trust_remote_code)
    task = stored_task(places) or headed_task(places)
    headed = task is not None and task.head
    return ExportSource(
        places=places,
        run=run,
        kind="encoder-decoder" if is_encoder_decoder(places.base) and not headed else "head" if headed else "decoder",
        tokenizer=tokenizer,
        template=stored_template(places) or _own_template(places, tokenizer),
        task=task,
        grid=_grid(places, run),
        rows=tuple(read_rows(run)) if run is not None else (),
        trust_remote_code=trust_remote_code,
    )


def float_model(source: ExportSource) -> nn.Module:
    """Return the model in float32 on the CPU, in evaluation mode: what was trained, before anything is quantized.

    An adapter is merged into the weights, which is exact in float32; where it was trained on a quantization grid, into the values of that
    grid. A bottleneck adapter under a head stays beside the weights: they can't take it in.
    """
    places = source.places
    head = base_head(places, source.task, source.tokenizer)
    base = load_model(places.base, dtype="float32", device="cpu", trust_remote_code=source.trust_remote_code, task=head)
    if places.adapter is None:
        plain: nn.Module = base.requires_grad_(False)
        return plain
    model = load_adapter(base, places.adapter)
    beside = source.kind != "decoder" and (places.adapter / BOTTLENECK_CONFIG).is_file()
    merged: nn.Module = model if beside else merge_adapter(model)
    return merged.eval()


def _run_of(places: Places) -> Path | None:
    if places.base.kind == "run":
        return places.base.path
    return run_folder(places.adapter) if places.adapter is not None else run_folder(places.base.folder)


def _grid(places: Places, run: Path | None) -> Mapping[str, Any] | None:
    """The grid of the pair; none for an adapter on another base than its own, whose values don't lie on it."""
    manifest = read_manifest(run) if run is not None else None
    if run is None or manifest is None or manifest.grid is None or places.adapter is None:
        return None
    return manifest.grid if places.base.folder.resolve() == (run / "model").resolve() else None


def _own_template(places: Places, tokenizer: PreTrainedTokenizerBase) -> Template:
    """The model's own chat template, with the stop tokens that its generation settings name."""
    from transformers import GenerationConfig

    template = untuned_template(tokenizer)
    if places.base.kind == "gguf" or not (places.base.folder / "generation_config.json").is_file():
        return template
    ids = GenerationConfig.from_pretrained(places.base.folder).eos_token_id
    names = tokenizer.convert_ids_to_tokens([ids] if isinstance(ids, int) else list(ids or ()))
    more = [str(name) for name in names if name is not None]
    return replace(template, stop_tokens=tuple(dict.fromkeys([*template.stop_tokens, *more])))
