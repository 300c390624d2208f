"""What a model was trained to do, kept beside its weights as ``task.json``: the head, the labels, how to read an answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from tunesmith.data.head_inputs import SubWord
from tunesmith.json_record import read_record

TASK_FILE = "task.json"

#: Every task that a model can be trained for.
TASK_NAMES = ("text-generation", "extraction", "text-classification", "token-classification", "summarization", "similarity")


@dataclass(frozen=True)
class TaskRecord:
    """What a model does, for whoever loads it.

    Attributes:
        name: one of ``TASK_NAMES``.
        head: whether the model ends in a head of its own (scores of labels, tags, an embedding) and writes no text.
        labels: text-classification: the labels, in the order of a head's outputs; token-classification: the tags, ``O`` among them.
        multi_label: any number of labels may be right at once.
        text_columns: the columns that a head reads; two of them are a pair. Without a head the template knows.
        label_column: the column that holds the answer.
        pooling: ``mean`` or ``last``, for similarity.
        threshold: similarity: the cosine from which on two texts count as alike; multi-label: the probability from which on a label counts.
        temperature: logits are divided by it before they become probabilities (Guo et al. 2017, section 4.2).
        schema: JSON schema of an extraction's answers.
        max_seq_len: tokens that a head reads of a text.
        sub_word: token-classification: the sub-word of a word at which its tag is read, ``first`` or ``last``.
        token_types: the head reads pairs, and is told which tokens are of the second text.
    """

    name: str = "text-generation"
    head: bool = False
    labels: tuple[str, ...] = ()
    multi_label: bool = False
    text_columns: tuple[str, ...] = ()
    label_column: str | None = None
    pooling: str | None = None
    threshold: float | None = None
    temperature: float = 1.0
    schema: Mapping[str, Any] | None = None
    max_seq_len: int | None = None
    sub_word: SubWord = "first"
    token_types: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return the record as plain values."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {**values, "labels": list(self.labels), "text_columns": list(self.text_columns)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TaskRecord:
        """Read what :meth:`to_dict` wrote; keys of later versions are ignored."""
        known = {field.name: values[field.name] for field in fields(cls) if field.name in values}
        known["labels"] = tuple(values.get("labels") or ())
        known["text_columns"] = tuple(values.get("text_columns") or ())
        return cls(**known)


def write_task(folder: Path, record: TaskRecord) -> None:
    """Keep the record in ``folder``."""
    (folder / TASK_FILE).write_text(json.dumps(record.to_dict(), indent=2, ensure_ascii=False), encoding="utf-8")


def read_task(folder: Path) -> TaskRecord | None:
    """Return the record kept in ``folder``, None where there is none.

    Raises:
        ModelError: for one that can't be read.
    """
    return read_record(folder / TASK_FILE, TaskRecord.from_dict)
