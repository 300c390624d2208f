"""Model folders that any Hugging Face program reads."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tunesmith.artifact import WEIGHT_SUFFIXES, model_files, naming_full_disk
from tunesmith.errors import ModelError, OutputError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def place_model(source_folder: Path, destination: Path) -> Literal["links", "copies"]:
    """Put a model into ``destination`` without taking its space twice: weights as links, configuration and tokenizer as copies.

    The small files are copies because programs write them in place (``save_pretrained`` does), and through a link that would
    change the base model, perhaps in the hub's cache. Links are absolute and lead to the files themselves, so this folder may be moved,
    and a folder of links in between may go.

    Args:
        source_folder: a plain model folder.
        destination: made when absent; files of the same names are replaced.

    Returns: ``copies`` when the file system gave neither symbolic nor hard links for some weight file, else ``links``.

    Raises:
        OutputError: when the disk fills up, or both folders are the same.
    """
    if destination.resolve() == source_folder.resolve():
        raise OutputError(f"the model {source_folder} can't be placed into its own folder", fix="Choose another folder")
    destination.mkdir(parents=True, exist_ok=True)
    linked = True
    with naming_full_disk(destination):
        for file in model_files(source_folder):
            target = destination / file.name
            target.unlink(missing_ok=True)
            if file.suffix not in WEIGHT_SUFFIXES:
                shutil.copyfile(file, target)
            elif not _link(file.resolve(), target):
                shutil.copyfile(file, target)
                linked = False
    return "links" if linked else "copies"


def save_plain_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None, folder: Path) -> None:
    """Write ``model`` (safetensors) and its tokenizer into ``folder`` as a plain Hugging Face model.

    Raises:
        ModelError: when the weights are quantized: merge in float32 first.
        OutputError: when the disk fills up.
    """
    from tunesmith.models.quiet import quiet_libraries

    if getattr(model, "hf_quantizer", None) is not None:
        raise ModelError(
            f"the weights of this {type(model).__name__} are quantized", fix="Load the base model in float32 and merge into that"
        )
    with naming_full_disk(folder), quiet_libraries():
        model.save_pretrained(folder)
        if tokenizer is not None:
            tokenizer.save_pretrained(folder)


def _link(file: Path, target: Path) -> bool:
    """Make a symbolic link, or a hard one where Windows wants an administrator for symbolic ones; say whether there is one now."""
    for link in (os.symlink, os.link):
        try:
            link(file, target)
        except (OSError, NotImplementedError):
            continue
        return True
    return False
