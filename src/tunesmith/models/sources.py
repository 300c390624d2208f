"""What the user named as the model, found and checked before anything heavy is loaded."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tunesmith.errors import ModelError, UsageError
from tunesmith.models.sample import sample_model_folder

DEFAULT_MODEL = "sample:smollm2-135m"


@dataclass(frozen=True)
class ModelSource:
    """A model that exists: where it is and what kind of place that is.

    Attributes:
        name: what the user named.
        kind: ``hub`` (path is the snapshot in the hub's cache), ``folder``, ``gguf`` (path is the file), ``sample``, or
            ``run`` (path is the output folder of a fine-tuning, with ``model/`` and perhaps ``adapter/`` in it).
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
        """The folder with ``config.json`` (for a GGUF file: the folder that the file is in)."""
        if self.kind == "run":
            return self.path / "model"
        return self.path.parent if self.kind == "gguf" else self.path


def resolve_model(name_or_path: str | None = None, *, revision: str | None = None, token: str | None = None) -> ModelSource:
    """Find the model that ``name_or_path`` names; ``None`` stands for the sample model.

    Args:
        name_or_path: a local folder or GGUF file, ``sample:NAME``, the output folder of a fine-tuning, or a hub id.
        revision: branch, tag or commit of a hub model.
        token: access token for a private hub model.

    Raises:
        ModelError: when there is no such model, or it is not one that can be loaded.
        UsageError: when a revision is given for something that is not on the hub.
    """
    name = name_or_path or DEFAULT_MODEL
    path = Path(name).expanduser()
    if revision is not None and (name.startswith("sample:") or path.exists()):
        raise UsageError(f"--revision names a version of a hub model, but {name} is not on the hub", fix="Leave --revision out")
    if name.startswith("sample:"):
        return ModelSource(name, "sample", sample_model_folder(name.removeprefix("sample:")))
    if path.is_file():
        return ModelSource(name, "gguf", path)
    if (path / "manifest.json").is_file() and (path / "model").is_dir():
        return ModelSource(name, "run", path)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelError(f"the folder {path} has no config.json, so it is not a model")
        json.loads((path / "config.json").read_text(encoding="utf-8"))
        return ModelSource(name, "folder", path)
    raise ModelError(f"there is no model folder or file {name}")
