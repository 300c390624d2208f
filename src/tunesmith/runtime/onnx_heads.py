"""Exported folders that onnxruntime runs without onnxruntime-genai: heads, embeddings, encoder-decoders.

Everything but the arithmetic is that of the PyTorch runtimes: which ids are read, where texts are cut, what an output means.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.artifact import read_manifest
from tunesmith.data.task_file import TASK_FILE, TaskRecord, read_task
from tunesmith.data.template_file import read_template
from tunesmith.data.templates import Template
from tunesmith.errors import ModelError
from tunesmith.models.checks import read_config
from tunesmith.models.load import load_tokenizer
from tunesmith.models.sources import ModelSource
from tunesmith.runtime.classifier import ClassifierRuntime
from tunesmith.runtime.embedder import EmbedderRuntime
from tunesmith.runtime.onnx_session import GraphModel
from tunesmith.runtime.sequence_runtime import SequenceRuntime
from tunesmith.runtime.tagger import TaggerRuntime

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from tunesmith.artifact import Manifest
    from tunesmith.runtime.protocol import Runtime

MODEL_FILE = "model.onnx"


class OnnxClassifier(ClassifierRuntime):
    """Labels of texts, by onnxruntime."""

    kind = "onnx"


class OnnxTagger(TaggerRuntime):
    """Tags of words, by onnxruntime."""

    kind = "onnx"


class OnnxEmbedder(EmbedderRuntime):
    """Embeddings of texts, by onnxruntime."""

    kind = "onnx"


class OnnxSequence(SequenceRuntime):
    """Answers of an encoder-decoder, by onnxruntime."""

    kind = "onnx"

    def with_template(self, template: Template, task: TaskRecord | None = None) -> OnnxSequence:
        """Return a runtime around the same graphs with another template."""
        return OnnxSequence(self.model, self.tokenizer, template, task)


_RUNTIMES: dict[str, type[OnnxClassifier | OnnxTagger | OnnxEmbedder]] = {
    "text-classification": OnnxClassifier,
    "token-classification": OnnxTagger,
    "similarity": OnnxEmbedder,
}


def load_graph(folder: Path, *, threads: int | None = None, trust_remote_code: bool = False) -> Runtime:
    """Load an exported folder, ready to answer.

    Args:
        folder: with a manifest that says ONNX, and without what onnxruntime-genai reads.
        threads: by default as many as there are physical cores.
        trust_remote_code: run Python code of the tokenizer.

    Raises:
        ModelError: when a part is missing or can't be read.
        DependencyError: when onnxruntime isn't installed.
    """
    read_config(folder)
    task, manifest = read_task(folder), read_manifest(folder)
    tokenizer = load_tokenizer(ModelSource(str(folder), "folder", folder), trust_remote_code=trust_remote_code)
    _check_parts(folder, task, tokenizer)
    if task is None or not task.head:
        from tunesmith.runtime.onnx_sequence import GraphSequenceModel

        model = GraphSequenceModel.open(folder, provider=_provider(manifest), threads=threads)
        template = read_template(folder) or Template(kind="text", text="{text}", answer_column="text")
        return OnnxSequence(model, tokenizer, template, task)
    headed = GraphModel.open(folder / MODEL_FILE, provider=_provider(manifest), threads=threads)
    if headed.length is not None:
        task = replace(task, max_seq_len=min(headed.length, task.max_seq_len or headed.length))
    return _RUNTIMES[task.name](headed, tokenizer, task)


def _check_parts(folder: Path, task: TaskRecord | None, tokenizer: PreTrainedTokenizerBase) -> None:
    """transformers makes an empty tokenizer out of nothing for some models; and without its task a head can't be told from other models."""
    fix = "Export it again, or copy the whole folder"
    names = sorted(set(tokenizer.vocab_files_names.values()))
    if not any((folder / name).is_file() for name in names):
        raise ModelError(f"{folder} has no tokenizer: neither {' nor '.join(names)} is there", fix=fix)
    if task is None and (folder / MODEL_FILE).is_file():
        raise ModelError(f"{folder} has no {TASK_FILE}, which says what its graph is for", fix=fix)
    if task is not None and task.head and task.name not in _RUNTIMES:
        raise ModelError(f"{folder}/{TASK_FILE} says a head for {task.name}, which none is for", fix=f"Known: {', '.join(_RUNTIMES)}")


def _provider(manifest: Manifest | None) -> str | None:
    export = manifest.extra.get("export") if manifest is not None else None
    return str(export.get("provider")) if isinstance(export, dict) else None
