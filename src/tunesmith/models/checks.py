"""Look at model files without loading them, so that what is wrong is said in a second and in words."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

from tunesmith.errors import ModelError
from tunesmith.models.gguf import MAGIC, read_gguf_head

_LFS_POINTER = b"version https://git-lfs"
_INDEX = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_FOREIGN = {
    "tf_model.h5": "TensorFlow",
    "flax_model.msgpack": "Flax",
    "model.ckpt.index": "TensorFlow",
    "consolidated.00.pth": "Meta's own",
    "consolidated.safetensors": "Mistral's own",
    "weights.npz": "MLX",
}


def read_config(folder: Path) -> dict[str, Any]:
    """Return a model folder's ``config.json``.

    Raises:
        ModelError: when the folder is no model folder, or the file can't be read; it says what the folder is instead.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise _not_a_model(folder)
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} can't be read: {error}", fix="Download the model again") from error
    if not isinstance(config, dict) or not ("model_type" in config or "auto_map" in config):
        raise ModelError(f"{path} names no model_type", fix="Is it the configuration of a language model for transformers?")
    return config


def check_weights(folder: Path) -> list[Path]:
    """Return a model folder's weight files, each one there and whole.

    Raises:
        ModelError: when there are none, one is missing, cut off, a Git LFS pointer, or a format that is not read here.
    """
    files = _listed_weights(folder) or _single_weights(folder)
    if not files:
        raise _no_weights(folder)
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        _check_links(files)
        named = ", ".join(missing[:3]) + (" …" if len(missing) > 3 else "")
        raise ModelError(f"{folder}: {len(missing)} of {len(files)} weight files are missing: {named}", fix="Download the model again")
    for file in files:
        _check_whole(file)
    return files


def check_gguf(file: Path) -> None:
    """Check that a file is a GGUF model and not cut off.

    Raises:
        ModelError: when it isn't.
    """
    with open(file, "rb") as stream:
        start = stream.read(len(_LFS_POINTER))
    if start == _LFS_POINTER:
        raise _lfs_pointer(file)
    if not start.startswith(MAGIC):
        fix = "Give the folder that it is in" if file.suffix in (".safetensors", ".bin", ".json") else "Give a model folder or a GGUF file"
        raise ModelError(f"{file} is not a GGUF file", fix=fix)
    try:
        head = read_gguf_head(file)
    except ValueError as error:
        raise ModelError(f"{file} is a GGUF file that can't be read: {error}", fix="Download it again") from error
    size = file.stat().st_size
    if size < head.size_bytes:
        raise ModelError(f"{file} is cut off: it has {size} bytes, its head promises {head.size_bytes}", fix="Download it again")
    if "general.architecture" not in head.fields or not head.num_tensors:
        raise ModelError(
            f"{file} is a GGUF file without a model in it", fix="Is it only a vocabulary, or an adapter? Give the model itself"
        )


def _listed_weights(folder: Path) -> list[Path]:
    """Files that an index names, for weights in several files."""
    for name in _INDEX:
        path = folder / name
        if path.is_file():
            try:
                names = set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values())
            except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
                raise ModelError(f"{path} can't be read: {error!r}", fix="Download the model again") from error
            return sorted(folder / str(name) for name in names)
    return []


def _single_weights(folder: Path) -> list[Path]:
    files = (folder / "model.safetensors", folder / "pytorch_model.bin")
    return [file for file in files if file.is_file() or file.is_symlink()][:1]


def _check_links(files: list[Path]) -> None:
    """A run links to its base model; say which one is gone."""
    for file in files:
        if file.is_symlink() and not file.exists():
            message = f"{file} is a link to {os.readlink(file)}, which is gone"
            raise ModelError(message, fix="Put that model back, or give another one; an adapter can be used with --adapter_path")


def _check_whole(file: Path) -> None:
    size = file.stat().st_size
    with open(file, "rb") as stream:
        start = stream.read(len(_LFS_POINTER))
        if start == _LFS_POINTER:
            raise _lfs_pointer(file)
        if file.suffix != ".safetensors":
            return
        # the format: length of the header as u64, the header as JSON with the place of every tensor, the tensors
        (length,) = struct.unpack("<Q", start[:8].ljust(8, b"\0"))
        stream.seek(8)
        header = stream.read(min(length, size))
    try:
        tensors = [value for name, value in json.loads(header).items() if name != "__metadata__"]
        expected = 8 + length + max((int(tensor["data_offsets"][1]) for tensor in tensors), default=0)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{file} is not a safetensors file, or is damaged or cut off", fix="Download the model again") from error
    if size != expected:
        raise ModelError(f"{file} is cut off: it has {size} bytes, its header promises {expected}", fix="Download the model again")


def _lfs_pointer(file: Path) -> ModelError:
    return ModelError(f"{file} is a Git LFS pointer, not the file itself", fix="Fetch it: git lfs install && git lfs pull")


def _not_a_model(folder: Path) -> ModelError:
    """Say what a folder without ``config.json`` is."""
    if (folder / "adapter_config.json").is_file():
        base = _base_of_adapter(folder)
        return ModelError(
            f"the folder {folder} holds an adapter, not a model",
            fix=f"Give its base model, {base}, and pass the adapter as --adapter_path {folder}",
        )
    if any(folder.glob("*.onnx")) or (folder / "genai_config.json").is_file():
        return _onnx(folder)
    ggufs = sorted(folder.glob("*.gguf"))
    if ggufs:
        return ModelError(f"the folder {folder} is not a model, but holds a GGUF file", fix=f"Give the file: {ggufs[0]}")
    inner = sorted(path.parent for path in folder.glob("*/config.json"))
    fix = f"Do you mean {inner[0]}?" if inner else "Give a folder with config.json, weights and tokenizer, a GGUF file, or a hub id"
    return ModelError(f"the folder {folder} has no config.json, so it is not a model", fix=fix)


def _base_of_adapter(folder: Path) -> str:
    try:
        base = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8")).get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError):
        base = None
    return str(base) if base else "the model that it was trained on"


def _no_weights(folder: Path) -> ModelError:
    if any(folder.glob("*.onnx")) or any(folder.glob("onnx/*.onnx")):
        return _onnx(folder)
    for name, whose in _FOREIGN.items():
        if (folder / name).is_file():
            message = f"the folder {folder} has its weights only in {whose} format ({name})"
            return ModelError(message, fix="Convert them to safetensors with transformers first")
    names = ", ".join(sorted(os.listdir(folder))[:6])
    return ModelError(f"the folder {folder} has no weights (model.safetensors); it has: {names}", fix="Download the model again")


def _onnx(folder: Path) -> ModelError:
    return ModelError(
        f"the folder {folder} holds an ONNX model, which can be run but not trained or loaded as a PyTorch model",
        fix="Give the model that it was exported from",
    )
