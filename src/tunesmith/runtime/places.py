"""What a path stands for: which base model, which adapter, which checkpoint, and where the template is written down."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from tunesmith.artifact import read_manifest
from tunesmith.data.task_file import TaskRecord, read_task
from tunesmith.data.template_file import read_template
from tunesmith.data.templates import Template
from tunesmith.errors import DataError, ModelError, UsageError
from tunesmith.models.sources import ModelSource, resolve_model

#: What training writes into a checkpoint: the trainable weights by their name in the model.
CHECKPOINT_FILE = "trainable.safetensors"
_ADAPTER_CONFIGS = ("adapter_config.json", "bottleneck_config.json")


@dataclass(frozen=True)
class Places:
    """Where the parts of a model to answer with are.

    Attributes:
        base: the base model.
        adapter: the folder of the adapter on it, if any.
        checkpoint: a folder with weights that replace those of the finished run, if any.
    """

    base: ModelSource
    adapter: Path | None = None
    checkpoint: Path | None = None


def find_places(
    path: str | Path | None, *, adapter_path: str | Path | None = None, revision: str | None = None, token: str | None = None
) -> Places:
    """Find out what ``path`` is: a model of any kind, the folder of a run, one of its checkpoints, or an adapter alone.

    Raises:
        ModelError: when it is none of these, or a part is missing.
        UsageError: when two adapters are named.
    """
    folder = Path(path).expanduser() if path is not None else None
    given = None if adapter_path is None else _adapter_folder(Path(adapter_path).expanduser())
    if folder is not None and (folder / CHECKPOINT_FILE).is_file():
        if given is not None:
            raise UsageError(f"{folder} is a checkpoint with weights of its own, so no adapter fits on it", fix="Leave the adapter out")
        run = _run_of_checkpoint(folder)
        return Places(run, run.adapter, folder.absolute())
    if folder is not None and is_adapter(folder):
        if given is not None:
            raise UsageError(f"two adapters are named: {folder} and {given}", fix="Name the base model and one adapter")
        return Places(_base_of(folder, token), folder.absolute())
    base = resolve_model(path, revision=revision, token=token)
    return Places(base, given or base.adapter)


def is_adapter(folder: Path) -> bool:
    """Return whether ``folder`` holds an adapter and no model."""
    return any((folder / name).is_file() for name in _ADAPTER_CONFIGS) and not (folder / "config.json").is_file()


def run_folder(folder: Path) -> Path | None:
    """Return the run that an ``adapter/`` or ``model/`` folder belongs to, None for one that stands alone."""
    run = folder.absolute().parent
    manifest = read_manifest(run) if folder.name in ("adapter", "model") else None
    return run if manifest is not None and manifest.kind == "finetune" else None


def stored_template(places: Places) -> Template | None:
    """Return the template written down nearest to the weights: with the adapter, its run, the model, the model's run; None if nowhere.

    Raises:
        ModelError: for one that can't be read.
    """
    return next((template for folder in _written_folders(places) if (template := _template_in(folder)) is not None), None)


def stored_task(places: Places) -> TaskRecord | None:
    """Return what the model was trained to do, written down nearest to the weights; None if nowhere.

    Raises:
        ModelError: for a record that can't be read.
    """
    return next((task for folder in _written_folders(places) if (task := read_task(folder)) is not None), None)


def _written_folders(places: Places) -> list[Path]:
    """Return the folders in which something may be written about the model: with the adapter, its run, the model, the model's run."""
    folders: list[Path] = []
    for folder in (places.adapter, places.base.path if places.base.kind == "run" else None, places.base.folder):
        if folder is not None and not (folder == places.base.folder and places.base.kind == "gguf"):
            folders += [folder, run] if (run := run_folder(folder)) else [folder]
    return folders


def grid_warning(places: Places) -> str | None:
    """Return what to say when an adapter that was trained on a quantization grid is put on another base than its own."""
    run = run_folder(places.adapter) if places.adapter else None
    manifest = read_manifest(run) if run else None
    if run is None or manifest is None or manifest.grid is None or places.base.folder.resolve() == (run / "model").resolve():
        return None
    grid = manifest.grid.get("name") or manifest.grid.get("quant_type") or "a quantization"
    return (
        f"The adapter {places.adapter} was trained on the {grid} grid of its base, but {places.base.name} has other weights: "
        f"answers can be worse than in training. The base it was trained on is {run / 'model'}."
    )


def _adapter_folder(folder: Path) -> Path:
    if not is_adapter(folder) and is_adapter(folder / "adapter"):
        folder = folder / "adapter"
    if not is_adapter(folder):
        names = " nor ".join(_ADAPTER_CONFIGS)
        what = f"has neither {names}" if folder.is_dir() else "does not exist"
        raise ModelError(f"the adapter folder {folder} {what}", fix="Name the folder 'adapter' of a finished run, or any peft adapter")
    return folder.absolute()


def _run_of_checkpoint(checkpoint: Path) -> ModelSource:
    run = checkpoint.absolute().parent.parent
    if read_manifest(run) is None:
        fix = f"Finish it first: tunesmith finetune --resume --output_path {run}"
        raise ModelError(f"{checkpoint} belongs to a run that is not finished, so there is no model to put its weights on", fix=fix)
    return resolve_model(run)


def _base_of(adapter: Path, token: str | None) -> ModelSource:
    """Return the base that an adapter alone was trained on: the model beside it, or the one that its configuration names."""
    run = run_folder(adapter)
    if run is not None and (run / "model").is_dir():
        return resolve_model(run / "model")
    config = next(adapter / name for name in _ADAPTER_CONFIGS if (adapter / name).is_file())
    try:
        named = json.loads(config.read_text(encoding="utf-8"))
        base, revision = named.get("base_model_name_or_path"), named.get("revision")
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(f"{config} can't be read: {error}") from error
    fix = f"Name the model that it was trained on, with {adapter} as adapter_path"
    if not base:
        raise ModelError(f"the adapter {adapter} does not say which model it was trained on", fix=fix)
    try:
        return resolve_model(base, revision=None if Path(base).exists() else revision, token=token)
    except ModelError as error:
        raise ModelError(f"the adapter {adapter} was trained on {base}, which can't be used: {error.message}", fix=fix) from error


def _template_in(folder: Path) -> Template | None:
    if (template := read_template(folder)) is not None:
        return template
    manifest = read_manifest(folder)
    try:
        return Template.from_dict(manifest.template) if manifest is not None and manifest.template else None
    except (AttributeError, TypeError, ValueError, DataError) as error:
        raise ModelError(f"the template stored in {folder} can't be read: {error}", fix="Restore the folder from a copy") from error
