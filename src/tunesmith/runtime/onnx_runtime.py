"""Decoders through onnxruntime-genai."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.runtime.engine_runtime import EngineRuntime
from tunesmith.runtime.genai_engine import GenaiEngine
from tunesmith.runtime.untuned import export_record

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class OnnxRuntime(EngineRuntime):
    """A `Runtime` by onnxruntime-genai. Answers are made in batches, labels and likelihoods one prompt at a time."""

    kind = "onnx"


def load_genai(
    folder: Path,
    tokenizer: PreTrainedTokenizerBase,
    *,
    threads: int | None = None,
    session_options: Mapping[str, Any] | None = None,
) -> OnnxRuntime:
    """Load a folder with ``genai_config.json``, ready to answer.

    Args:
        folder: made by tunesmith, or by another program that writes for onnxruntime-genai.
        tokenizer: of transformers, from the folder.
        threads: by default what the configuration names; failing that, as many as there are physical cores.
        session_options: of onnxruntime, over those of the configuration.

    Raises:
        ModelError: when a part is missing or can't be read.
        DependencyError: when onnxruntime-genai isn't installed.
    """
    engine = GenaiEngine(folder, threads=threads, session_options=session_options)
    template, task = export_record(folder, tokenizer, engine.stop_ids)
    return OnnxRuntime(engine, tokenizer, template, task)
