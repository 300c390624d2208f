"""GGUF files through llama.cpp."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.runtime.engine_runtime import EngineRuntime
from tunesmith.runtime.llama_engine import LlamaEngine
from tunesmith.runtime.untuned import export_record

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MODEL_FILE = "model.gguf"


class GgufRuntime(EngineRuntime):
    """A `Runtime` by llama.cpp, one row at a time: llama.cpp gains little from batches on a CPU."""

    kind = "gguf"


def load_gguf(folder: Path, tokenizer: PreTrainedTokenizerBase, *, threads: int | None = None, on_gpu: bool | None = None) -> GgufRuntime:
    """Load an exported folder with a GGUF file, ready to answer.

    Args:
        folder: with ``model.gguf`` and what belongs to it.
        tokenizer: of transformers, from the folder.
        threads: by default as many as there are physical cores.
        on_gpu: see `LlamaEngine`.

    Raises:
        ModelError: when a part is missing or can't be read.
        DependencyError: when llama-cpp-python isn't installed.
    """
    engine = LlamaEngine(folder / MODEL_FILE, threads=threads, on_gpu=on_gpu)
    template, task = export_record(folder, tokenizer, engine.stop_ids)
    return GgufRuntime(engine, tokenizer, template, task)
