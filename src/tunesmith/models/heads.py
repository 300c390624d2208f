"""What a model ends in: the output layer over the vocabulary, a layer that scores labels or tags, or nothing (embeddings)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.artifact import write_file_atomically
from tunesmith.models.checks import read_config

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from tunesmith.models.sources import ModelSource

#: Task -> class of transformers that loads its models.
AUTO_CLASSES = {
    "text-generation": "AutoModelForCausalLM",
    "text-classification": "AutoModelForSequenceClassification",
    "token-classification": "AutoModelForTokenClassification",
    "similarity": "AutoModel",
    "sequence-to-sequence": "AutoModelForSeq2SeqLM",
}


@dataclass(frozen=True)
class Head:
    """What a model is loaded with on top.

    Attributes:
        task: a key of :data:`AUTO_CLASSES`.
        labels: what the head scores, in the order of its outputs; none to take what the model's configuration says.
        multi_label: any number of labels may be right at once.
        pad_token_id: fills the end of short rows; a decoder's head is read at the last token that is another one.
        may_be_new: whether the weights may lack it; it is random then.
    """

    task: str = "text-generation"
    labels: tuple[str, ...] = ()
    multi_label: bool = False
    pad_token_id: int | None = None
    may_be_new: bool = True

    def config_values(self) -> dict[str, Any]:
        """Return what goes into the model's configuration, as transformers spells it."""
        values: dict[str, Any] = {} if self.pad_token_id is None else {"pad_token_id": self.pad_token_id}
        if not self.labels:
            return values
        values["id2label"] = dict(enumerate(self.labels))
        values["label2id"] = {label: number for number, label in enumerate(self.labels)}
        if self.task == "text-classification":
            values["problem_type"] = "multi_label_classification" if self.multi_label else "single_label_classification"
        return values


def is_encoder_decoder(source: ModelSource) -> bool:
    """Return whether a model reads with one half and writes with the other (T5, BART), by its configuration."""
    has_config = source.kind != "gguf" and (source.folder / "config.json").is_file()
    return has_config and bool(read_config(source.folder).get("is_encoder_decoder"))


def head_modules(model: PreTrainedModel) -> list[str]:
    """Return the full names of the modules with weights that lie above the model's body, and of its pooler.

    These are what a model of another task lacks: they start at random and have to be trained whole. An encoder's pooler is one of them, as
    models that were trained to fill in words come without one.
    """
    body = model.base_model_prefix
    has_body = model.base_model is not model
    found = []
    for name, module in model.named_modules():
        parts = name.split(".")
        above = has_body and parts[0] != body
        if name and (above or "pooler" in parts) and any(True for _ in module.parameters(recurse=False)):
            found.append(name)
    return found


def write_head_config(folder: Path, head: Head) -> None:
    """Write the labels into the ``config.json`` of a model folder, so that whoever loads it gives it a head of the right size."""
    file = folder / "config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    config.pop("num_labels", None)
    config.update(head.config_values())
    write_file_atomically(file, json.dumps(config, indent=2, ensure_ascii=False) + "\n")
