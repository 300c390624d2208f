"""Tiny models with heads and tiny encoder-decoders as folders that can be exported."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoModel, AutoModelForSequenceClassification, AutoModelForTokenClassification, PreTrainedConfig, PreTrainedModel

from tiny_encoders import ENCODERS, save_tiny_encoder_decoder, tiny_encoder, tiny_encoder_decoder
from tiny_models import tiny_model, tiny_tokenizer
from tunesmith.artifact import Manifest, write_manifest
from tunesmith.data.task_file import TaskRecord, write_task
from tunesmith.data.template_file import write_template
from tunesmith.data.templates import Template
from tunesmith.export.graph import build_graph
from tunesmith.export.source import read_source
from tunesmith.export.targets import Recipe

LABELS = ("happy", "sad", "angry", "calm")
TAGS = ("O", "B-place", "I-place", "B-time")
#: Of very different lengths, so that every batch is padded.
TEXTS = (
    "The train to the city leaves at seven in the morning and arrives before noon.",
    "no",
    "Could you send me the report by Friday? Thank you very much for the help!",
    "Ärger über Züge – 0 1 2",
    "x",
)
PAIRS = (("The train to the city", "leaves at seven"), ("Could you send me", "the report by Friday? Thank you very much"), ("no", "no"))
RECORDS = {
    "text-classification": TaskRecord("text-classification", True, LABELS, text_columns=("text",), label_column="label", temperature=1.5),
    "token-classification": TaskRecord("token-classification", True, TAGS, text_columns=("text",), label_column="tags"),
    "similarity": TaskRecord("similarity", True, text_columns=("text1", "text2"), label_column="label", pooling="mean"),
}
_CLASSES = {
    "text-classification": AutoModelForSequenceClassification,
    "token-classification": AutoModelForTokenClassification,
    "similarity": AutoModel,
}


def save_headed(family: str, task: str, folder: Path, *, record: TaskRecord | None = None) -> Path:
    """Write a tiny model of ``family`` with the head of ``task``, random but fixed, with what a run keeps beside its weights."""
    config = _config(family)
    record = record or RECORDS[task]
    if record.labels:
        config.id2label = dict(enumerate(record.labels))
        config.label2id = {label: number for number, label in enumerate(record.labels)}
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model: PreTrainedModel = _CLASSES[task].from_config(config, dtype=torch.float32)
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    write_task(folder, record)
    return folder


def _config(family: str) -> PreTrainedConfig:
    if family in ("t5", "bart"):
        return tiny_encoder_decoder(family).config
    return (tiny_encoder(family) if family in ENCODERS else tiny_model(family, num_hidden_layers=1)).config


def save_sequence(family: str, folder: Path) -> Path:
    """Write a tiny encoder-decoder with a template."""
    save_tiny_encoder_decoder(family, folder)
    write_template(folder, Template(kind="text", text="{document} => {summary}", answer_column="summary"))
    write_task(folder, TaskRecord("summarization"))
    return folder


def export_graph(source: Path, folder: Path, *, precision: str = "fp32", static: bool = False, **dimensions: int) -> Path:
    """Write the graph of a model and what is needed to load it, as auto-opt does, without the proof."""
    found = read_source(source)
    folder.mkdir(exist_ok=True)
    build_graph(found, folder, Recipe("torch.onnx", precision, static_shapes=static), dimensions)
    write_template(folder, found.template)
    if found.task is not None:
        write_task(folder, found.task)
    write_manifest(folder, Manifest("onnx", extra={"export": {"provider": "CPUExecutionProvider", "precision": precision}}))
    return folder
