"""What the user named as the model: found, and checked before anything heavy is loaded."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tunesmith.artifact import read_manifest
from tunesmith.errors import ModelError, UsageError
from tunesmith.models.checks import check_gguf, check_weights, read_config
from tunesmith.models.sample import sample_model_folder

DEFAULT_MODEL = "sample:smollm2-135m"
_SAMPLE = "sample:"
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


@dataclass(frozen=True)
class ModelSource:
    """A model that exists: where it is, and what kind of place that is.

    Attributes:
        name: what the user named.
        kind: ``hub`` (path is the snapshot in the hub's cache, weights come when they are loaded), ``folder``, ``sample``,
            ``gguf`` (path is the file), or ``run`` (path is the output folder of a fine-tuning: ``model/``, perhaps ``adapter/``).
        path: the folder or file.
        revision: commit of a hub model.
        token: what opens a private hub model; never shown, never saved.
    """

    name: str
    kind: Literal["hub", "folder", "gguf", "sample", "run"]
    path: Path
    revision: str | None = None
    token: str | None = field(default=None, repr=False, compare=False)

    @property
    def folder(self) -> Path:
        """The folder with ``config.json``; for a GGUF file, which has none, the folder that it lies in."""
        if self.kind == "run":
            return self.path / "model"
        return self.path.parent if self.kind == "gguf" else self.path

    @property
    def adapter(self) -> Path | None:
        """The adapter folder of a run, if it has one."""
        adapter = self.path / "adapter"
        return adapter if self.kind == "run" and adapter.is_dir() else None


def resolve_model(name_or_path: str | Path | None = None, *, revision: str | None = None, token: str | None = None) -> ModelSource:
    """Find the model that ``name_or_path`` names; ``None`` stands for the sample model.

    Args:
        name_or_path: a local folder or GGUF file, the output folder of a fine-tuning, ``sample:NAME``, or a hub id.
        revision: branch, tag or commit of a hub model.
        token: access token for a private hub model.

    Raises:
        ModelError: when there is no such model, or it is not one that can be loaded; it says what is there instead.
        UsageError: when a revision is given for something that is not on the hub.
        DependencyError: for the sample model without the extra that brings it.
    """
    name = DEFAULT_MODEL if name_or_path is None else os.fspath(name_or_path)
    path = Path(name).expanduser()
    if not name.strip():
        raise ModelError("the name of the model is empty", fix=f"Give a folder, a hub id, a GGUF file, or {DEFAULT_MODEL}")
    if name.startswith(_SAMPLE):
        source = ModelSource(name, "sample", sample_model_folder(name.removeprefix(_SAMPLE)))
    elif path.is_file():
        check_gguf(path)
        source = ModelSource(name, "gguf", path.absolute())
    elif path.is_dir():
        source = _resolve_folder(name, path.absolute())
    else:
        return _resolve_hub(name, revision, token)
    if revision is not None:
        raise UsageError(f"--revision names a version of a model on the hub, but {name} is not on the hub", fix="Leave --revision out")
    return source


def _resolve_folder(name: str, path: Path) -> ModelSource:
    manifest = read_manifest(path)
    if manifest is not None and manifest.kind == "finetune":
        if not (path / "model").is_dir():
            raise ModelError(f"the fine-tuning in {path} has no model/ folder any more", fix="Fine-tune again, or restore it")
        source = ModelSource(name, "run", path)
    else:
        source = ModelSource(name, "folder", path)
    read_config(source.folder)
    check_weights(source.folder)
    return source


def _resolve_hub(name: str, revision: str | None, token: str | None) -> ModelSource:
    if not _HUB_ID.fullmatch(name) or name.startswith((".", "~")) or name.lower().endswith((".gguf", ".safetensors", ".bin")):
        what = "file" if Path(name).suffix.lower() in (".gguf", ".safetensors", ".bin") else "folder"
        raise ModelError(f"there is no model {what} {name}", fix=_similar_neighbour(Path(name).expanduser()))
    from tunesmith.models.hub import fetch_settings

    snapshot = fetch_settings(name, revision=revision, token=token)
    read_config(snapshot)
    return ModelSource(name, "hub", snapshot, snapshot.name, token)


def _similar_neighbour(path: Path) -> str:
    """Name the nearest thing in the folder where ``path`` should be; that folder, when it is what is missing."""
    import difflib

    parent = path.parent
    if not parent.is_dir():
        return f"The folder {parent} does not exist"
    close = difflib.get_close_matches(path.name, [entry.name for entry in parent.iterdir()], n=1)
    return f"Do you mean {parent / close[0]}?" if close else "Check the path; a hub id looks like owner/name"
