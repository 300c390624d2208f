"""Where other programs stop: the tokens that ``genai_config.json`` and the metadata of a GGUF file name."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith.errors import ModelError

GENAI_CONFIG = "genai_config.json"
_GGUF_KEYS = ("tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id")


@dataclass(frozen=True)
class WrittenStops:
    """Token ids at which a program stops, and the file that says so."""

    ids: tuple[int, ...]
    where: str


def stop_ids_in_files(files: Path) -> WrittenStops | None:
    """Return where the engine of an exported folder or GGUF file stops by what is written there; None where nothing is.

    Raises:
        ModelError: for a file that can't be read.
    """
    if files.is_file() and files.suffix == ".gguf":
        return _of_gguf(files)
    if (files / GENAI_CONFIG).is_file():
        return _of_genai(files / GENAI_CONFIG)
    found = sorted(files.glob("*.gguf")) if files.is_dir() else []
    return _of_gguf(found[0]) if found else None


def _of_genai(file: Path) -> WrittenStops:
    try:
        ids: Any = json.loads(file.read_text(encoding="utf-8"))["model"].get("eos_token_id")
        numbers = [ids] if isinstance(ids, int) else [int(number) for number in ids or ()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{file} can't be read: {error}", fix="Export the model again") from error
    return WrittenStops(tuple(dict.fromkeys(numbers)), file.name)


def _of_gguf(file: Path) -> WrittenStops:
    from tunesmith.models.gguf import read_gguf_head

    try:
        fields = read_gguf_head(file).fields
    except (OSError, ValueError) as error:
        raise ModelError(f"{file} can't be read: {error}", fix="Export the model again") from error
    return WrittenStops(tuple(dict.fromkeys(int(fields[key]) for key in _GGUF_KEYS if key in fields)), f"the metadata of {file.name}")
