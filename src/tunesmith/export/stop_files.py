"""What other programs go by: the tokens at which they stop (``genai_config.json``, metadata of a GGUF file), a GGUF's chat template."""

from __future__ import annotations

import json
from collections.abc import Mapping
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
    if (files / GENAI_CONFIG).is_file():
        return _of_genai(files / GENAI_CONFIG)
    file = gguf_in(files)
    return _of_gguf(file) if file is not None else None


def gguf_in(files: Path) -> Path | None:
    """Return the GGUF file of an exported model: ``files`` itself, or the model in that folder; None where there is none."""
    if files.is_file():
        return files if files.suffix == ".gguf" else None
    found = sorted(files.glob("*.gguf"), key=lambda file: (file.stem != "model", file.name))  # not the adapter beside it
    return found[0] if found else None


def chat_template_in(gguf: Path) -> str | None:
    """Return the chat template in a GGUF file's metadata, None where it has none.

    Raises:
        ModelError: for a file that can't be read.
    """
    found = _fields(gguf).get("tokenizer.chat_template")
    return None if found is None else str(found)


def _of_genai(file: Path) -> WrittenStops:
    try:
        ids: Any = json.loads(file.read_text(encoding="utf-8"))["model"].get("eos_token_id")
        numbers = [ids] if isinstance(ids, int) else [int(number) for number in ids or ()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{file} can't be read: {error}", fix="Export the model again") from error
    return WrittenStops(tuple(dict.fromkeys(numbers)), file.name)


def _of_gguf(file: Path) -> WrittenStops:
    fields = _fields(file)
    return WrittenStops(tuple(dict.fromkeys(int(fields[key]) for key in _GGUF_KEYS if key in fields)), f"the metadata of {file.name}")


def _fields(gguf: Path) -> Mapping[str, Any]:
    from tunesmith.models.gguf import read_gguf_head

    try:
        return read_gguf_head(gguf).fields
    except (OSError, ValueError) as error:
        raise ModelError(f"{gguf} can't be read: {error}", fix="Export the model again") from error
