"""Similarity: two texts, each an embedding of length 1, alike as far as their cosine says.

B pairs, T tokens, D hidden size.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from tunesmith.data.head_inputs import encode_for_head
from tunesmith.data.placeholders import as_text
from tunesmith.data.task_file import TaskRecord
from tunesmith.errors import DataError, UsageError
from tunesmith.losses.check import check_pairs_loss
from tunesmith.losses.load import is_file, load_loss
from tunesmith.models.heads import Head
from tunesmith.models.pooling import pool
from tunesmith.models.reading import Reading
from tunesmith.tasks.batches import pad, take
from tunesmith.tasks.calibration import fit_threshold
from tunesmith.tasks.head_model import model_inputs
from tunesmith.tasks.protocol import Batch, Columns, TaskLoss
from tunesmith.tasks.rows import Limits, prepare_rows

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

    from tunesmith.config.finetune import FinetuneOptions
    from tunesmith.data.prepare import Prepared
    from tunesmith.metrics.protocol import Needs

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Row:
    texts: tuple[str, str]
    label: float


class Similarity:
    """Pairs of texts with a label (1 alike, 0 not) or a score."""

    texts_per_row = 2
    gives: tuple[Needs, ...] = ("scores",)

    def __init__(self, record: TaskRecord, tokenizer: PreTrainedTokenizerBase, loss: nn.Module, *, largest: float = 1.0) -> None:
        """``largest``: what labels are divided by for a built-in loss, so that they lie between 0 and 1."""
        self.record = record
        self.tokenizer = tokenizer
        self.loss_module = loss
        self.teacher: nn.Module | None = None
        self.largest = largest

    @classmethod
    def from_rows(
        cls,
        columns: Columns,
        train: Dataset,
        validation: Dataset | None,
        options: FinetuneOptions,
        tokenizer: PreTrainedTokenizerBase,
        reading: Reading,
    ) -> Similarity:
        """Make the task for data.

        Raises:
            UserError: for labels that are no numbers, or a loss that doesn't fit.
        """
        name = options.loss or "contrastive"
        if name != "contrastive" and not is_file(name):
            raise UsageError(f"--loss {name} scores labels, similarity compares two texts", fix="Use contrastive, or a module of your own.")
        module = load_loss(name, options.loss_kwargs)
        check_pairs_loss(module, name)
        largest = 1.0 if is_file(name) else _largest(train, columns.label)
        if largest != 1.0:
            log.info("Scores go up to %g: they are divided by it.", largest)
        record = TaskRecord(
            name="similarity", head=True, text_columns=columns.texts, label_column=columns.label, pooling=options.pooling or "mean"
        )
        return cls(record, tokenizer, module, largest=largest)

    @property
    def head(self) -> Head:
        """None: the model ends with its last hidden states."""
        return Head("similarity", pad_token_id=int(self.tokenizer.pad_token_id))

    # Rows

    def prepare(self, dataset: Dataset, limits: Limits) -> Prepared:
        """Return the rows as token ids of both texts and their label."""
        from datasets import List, Value

        features = {"second_ids": List(Value("int32")), "labels": Value("float32")}
        return prepare_rows(dataset, self._read, self._tokenize, features, limits)

    def _read(self, row: Mapping[str, Any]) -> _Row | None:
        label = label_value(row.get(self.record.label_column or ""), self.record.label_column or "")
        if label is None:
            return None
        first, second = (as_text(row.get(column)) for column in self.record.text_columns)
        for column, text in zip(self.record.text_columns, (first, second), strict=True):
            if not text.strip():
                raise DataError(f"column '{column}' is empty", fix="Remove the row, or give it a text.")
        return _Row((first, second), label / self.largest)

    def _tokenize(self, rows: Sequence[_Row], longest: int | None) -> list[dict[str, Any]]:
        first, second = (encode_for_head([(row.texts[side],) for row in rows], self.tokenizer, max_seq_len=longest) for side in (0, 1))
        return [
            {"input_ids": one, "second_ids": other, "labels": row.label, "length": max(len(one), len(other)), "num_supervised": 1}
            for one, other, row in zip(first, second, rows, strict=True)
        ]

    # Batches

    def collate(self, rows: Sequence[Mapping[str, Any]], pad_token_id: int) -> dict[str, Tensor]:
        """Return ``input_ids`` and ``second_ids`` ``(B, T)``, their lengths, the longer of both, and ``labels`` ``(B,)``."""
        first, first_lengths = pad([row["input_ids"] for row in rows], pad_token_id)
        second, second_lengths = pad([row["second_ids"] for row in rows], pad_token_id)
        return {
            "input_ids": first,
            "first_lengths": first_lengths,
            "second_ids": second,
            "second_lengths": second_lengths,
            "lengths": torch.maximum(first_lengths, second_lengths),
            "labels": torch.tensor([row["labels"] for row in rows], dtype=torch.float32),
        }

    def part(self, batch: Batch, group: Sequence[int]) -> dict[str, Tensor]:
        """Return some rows of a batch, padded no more than they need."""
        return take(batch, group, {"input_ids": "first_lengths", "second_ids": "second_lengths"})

    def count(self, batch: Batch) -> int:
        """Pairs count."""
        return len(batch["labels"])

    def loss(self, model: nn.Module, batch: Batch) -> TaskLoss:
        """Compute the loss of a batch of pairs."""
        first = self._embed(model, batch["input_ids"], batch["first_lengths"])  # (B, D)
        second = self._embed(model, batch["second_ids"], batch["second_lengths"])
        labels = batch["labels"]
        loss_sum = self.loss_module(first, second, labels) * len(labels)
        seen = [] if torch.is_grad_enabled() else list(zip((first * second).sum(dim=-1).cpu(), labels.cpu(), strict=True))
        return TaskLoss(loss_sum, len(labels), None, seen)

    def _embed(self, model: nn.Module, input_ids: Tensor, lengths: Tensor) -> Tensor:
        hidden = model(**model_inputs(model, input_ids, lengths)).last_hidden_state  # (B, T, D)
        return pool(hidden, lengths, self.record.pooling or "mean")

    # Measuring

    def metrics(self, loss: float, num_correct: int, count: int, seen: Sequence[tuple[Any, Any]]) -> dict[str, float]:
        """Loss, and for labels of 0 and 1 the share told right by the best threshold on these rows."""
        cosines, labels = _columns(seen)
        if not _is_binary(labels):
            return {"loss": loss}
        alike = labels > 0.5
        told = cosines >= fit_threshold(cosines, alike)
        return {"loss": loss, "accuracy": float((told == alike).float().mean())}

    def for_metric(self, needs: Needs, seen: Sequence[tuple[Any, Any]]) -> tuple[list[Any], list[list[Any]]]:
        """Cosines and labels."""
        return [float(cosine) for cosine, _ in seen], [[float(label) * self.largest] for _, label in seen]

    def settle(self, seen: Sequence[tuple[Any, Any]]) -> None:
        """Find the cosine that tells alike from unlike validation rows best, where labels are 0 and 1."""
        cosines, labels = _columns(seen)
        if _is_binary(labels):
            self.record = replace(self.record, threshold=round(fit_threshold(cosines, labels > 0.5), 6))


def label_value(value: object, column: str) -> float | None:
    """Return a label as a number: numbers, truth values, and texts that are one; None for an empty cell.

    Raises:
        DataError: for anything else, and for negative numbers.
    """
    text = as_text(value).strip()
    if not text:
        return None
    words = {"true": 1.0, "false": 0.0}
    try:
        number = words[text.lower()] if text.lower() in words else float(text)
    except ValueError:
        fix = "Give 1 for alike and 0 for not, or a score; for labels with names: --task text-classification --head"
        raise DataError(f"the label in '{column}' is {text[:60]!r}, no number", fix=fix) from None
    if not 0 <= number < float("inf"):
        raise DataError(f"the label in '{column}' is {text[:60]}", fix="Give numbers from 0 (unlike) upwards.")
    return number


def _largest(dataset: Dataset, column: str) -> float:
    """What scores are divided by: the largest one when it is above 1; bad ones are said with their place later."""
    largest = 1.0
    for value in dataset[column]:
        try:
            largest = max(largest, label_value(value, column) or 0.0)
        except DataError:
            continue
    return largest


def _columns(seen: Sequence[tuple[Any, Any]]) -> tuple[Tensor, Tensor]:
    cosines, labels = (torch.stack(column) for column in zip(*seen, strict=True))
    return cosines, labels


def _is_binary(labels: Tensor) -> bool:
    """Whether labels are 0 and 1, and both are there."""
    return bool(((labels == 0) | (labels == 1)).all()) and 0 < int(labels.sum()) < len(labels)
