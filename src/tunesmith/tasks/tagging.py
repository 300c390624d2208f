"""Token classification: a tag for every word, learnt at its first sub-word; by a decoder, which only sees what stands before, at the last.

B rows, T tokens, W words, L tags.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from tunesmith.data.head_inputs import encode_words, join_words
from tunesmith.data.labels import sort_labels
from tunesmith.data.provenance import place_of
from tunesmith.data.spans import OUTSIDE, read_spans, read_tags, scheme_of
from tunesmith.data.task_file import TaskRecord
from tunesmith.data.tokenize import IGNORE_INDEX
from tunesmith.errors import DataError
from tunesmith.models.heads import Head
from tunesmith.models.reading import Reading
from tunesmith.tasks.batches import pad, take
from tunesmith.tasks.head_model import head_logits
from tunesmith.tasks.label_loss import label_loss
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
    text: str
    words: list[tuple[int, int]]
    tags: list[str]


class Tagging:
    """Rows of words and tags (BIO, IO or BIOES), or of a text and spans."""

    texts_per_row = 1
    gives: tuple[Needs, ...] = ("spans",)

    def __init__(self, record: TaskRecord, tokenizer: PreTrainedTokenizerBase, loss: nn.Module, *, spans: bool) -> None:
        self.record = record
        self.tokenizer = tokenizer
        self.loss_module = loss
        self.teacher: nn.Module | None = None
        self.spans = spans
        self._numbers = {tag: number for number, tag in enumerate(record.labels)}

    @classmethod
    def from_rows(
        cls,
        columns: Columns,
        train: Dataset,
        validation: Dataset | None,
        options: FinetuneOptions,
        tokenizer: PreTrainedTokenizerBase,
        reading: Reading,
    ) -> Tagging:
        """Make the task for data; ``O`` is among the tags whether a row has it or not.

        Raises:
            UserError: when there is no other tag, or for a loss that doesn't fit.
        """
        (text,) = columns.texts
        spans = not _holds_lists(train, text)
        counts: Counter[str] = Counter()
        for rows in (train, validation):
            for row in rows.select_columns([text, columns.label]) if rows is not None else ():
                counts.update(_tags_of(row, text, columns.label, spans=spans))
        tags = sort_labels({OUTSIDE, *counts})
        if len(tags) < 2:
            _check_readable(train, text, columns.label, spans=spans)
            raise DataError(f"column '{columns.label}' has no tag but {OUTSIDE}, there is nothing to find", fix="Tag some words.")
        log.info("%d tags, written as %s.", len(tags), scheme_of(tags))
        record = TaskRecord(
            name="token-classification",
            head=True,
            labels=tags,
            text_columns=columns.texts,
            label_column=columns.label,
            sub_word="last" if reading.causal else "first",
        )
        return cls(record, tokenizer, label_loss(options, tags, counts, multi_label=False), spans=spans)

    @property
    def head(self) -> Head:
        """A layer that scores the tags of every token."""
        return Head("token-classification", self.record.labels, pad_token_id=int(self.tokenizer.pad_token_id))

    # Rows

    def prepare(self, dataset: Dataset, limits: Limits) -> Prepared:
        """Return the rows as token ids and tags; -100 everywhere but at the sub-word that stands for a word."""
        from datasets import List, Value

        return prepare_rows(dataset, self._read, self._tokenize, {"labels": List(Value("int32"))}, limits)

    def _read(self, row: Mapping[str, Any]) -> _Row | None:
        text_column, label_column = self.record.text_columns[0], self.record.label_column or ""
        if self.spans:
            found = read_spans(row, text_column, label_column)
            return None if found is None else _Row(*found)
        pair = read_tags(row, text_column, label_column)
        if pair is None:
            return None
        return _Row(*join_words(pair[0]), pair[1])

    def _tokenize(self, rows: Sequence[_Row], longest: int | None) -> list[dict[str, Any]]:
        if not rows:
            return []
        texts, words = [row.text for row in rows], [row.words for row in rows]
        encoded = encode_words(texts, words, self.tokenizer, sub_word=self.record.sub_word, max_seq_len=longest)
        made = []
        for row, (ids, positions) in zip(rows, encoded, strict=True):
            labels = [IGNORE_INDEX] * len(ids)
            for tag, position in zip(row.tags, positions, strict=True):
                if position is not None:
                    labels[position] = self._numbers[tag]
            num_supervised = len(labels) - labels.count(IGNORE_INDEX)
            made.append({"input_ids": ids, "labels": labels, "length": len(ids), "num_supervised": num_supervised})
        return made

    # Batches

    def collate(self, rows: Sequence[Mapping[str, Any]], pad_token_id: int) -> dict[str, Tensor]:
        """Return ``input_ids`` and ``labels`` ``(B, T)``, ``lengths`` ``(B,)``."""
        input_ids, lengths = pad([row["input_ids"] for row in rows], pad_token_id)
        labels, _ = pad([row["labels"] for row in rows], IGNORE_INDEX)
        return {"input_ids": input_ids, "labels": labels, "lengths": lengths}

    def part(self, batch: Batch, group: Sequence[int]) -> dict[str, Tensor]:
        """Return some rows of a batch, padded no more than they need."""
        return take(batch, group, {"input_ids": "lengths", "labels": "lengths"})

    def count(self, batch: Batch) -> int:
        """Words count."""
        return int(batch["labels"].ne(IGNORE_INDEX).sum())

    def loss(self, model: nn.Module, batch: Batch) -> TaskLoss:
        """Compute the loss over the words of a batch."""
        supervised = batch["labels"] != IGNORE_INDEX  # (B, T)
        labels = batch["labels"][supervised]  # (W,)
        logits = head_logits(model, batch)[supervised].float()  # (W, L)
        given = [logits, labels]
        if self.teacher is not None:
            with torch.no_grad():
                given.append(head_logits(self.teacher, batch)[supervised].float())
        loss_sum = self.loss_module(*given) * len(labels) if len(labels) else logits.sum()  # a row whose words are all cut off
        tags = logits.argmax(dim=-1)
        seen = []
        if not torch.is_grad_enabled():
            words = supervised.sum(dim=-1).tolist()
            seen = list(zip(torch.split(tags.cpu(), words), torch.split(labels.cpu(), words), strict=True))
        return TaskLoss(loss_sum, len(labels), int((tags == labels).sum()), seen)

    # Measuring

    def metrics(self, loss: float, num_correct: int, count: int, seen: Sequence[tuple[Any, Any]]) -> dict[str, float]:
        """Loss, and the share of words whose tag is right (``--eval_metrics span_f1`` gives what counts)."""
        return {"loss": loss, "accuracy": num_correct / max(count, 1)}

    def for_metric(self, needs: Needs, seen: Sequence[tuple[Any, Any]]) -> tuple[list[Any], list[list[Any]]]:
        """Tags of the words of every row."""
        names = self.record.labels
        predictions, references = ([[names[number] for number in row.tolist()] for row in column] for column in zip(*seen, strict=True))
        return predictions, references

    def settle(self, seen: Sequence[tuple[Any, Any]]) -> None:
        """Nothing is set by validation rows."""


def _tags_of(row: Mapping[str, Any], text: str, label: str, *, spans: bool) -> list[str]:
    """The tags of a row; none of one that can't be read, which is said with its place when rows are prepared."""
    try:
        found = read_spans(row, text, label) if spans else read_tags(row, text, label)
    except DataError:
        return []
    return [] if found is None else list(found[-1])


def _check_readable(dataset: Dataset, text: str, label: str, *, spans: bool) -> None:
    for index, row in enumerate(dataset):
        try:
            (read_spans if spans else read_tags)(row, text, label)
        except DataError as error:
            file, place = place_of(dataset, index)
            raise DataError(error.message, file=file, row=place, fix=error.fix) from error


def _holds_lists(dataset: Dataset, column: str) -> bool:
    """Whether a column holds lists, or the JSON of lists."""
    from datasets import List

    from tunesmith.data.turns import parsed_json

    return isinstance(dataset.features[column], List) or isinstance(parsed_json(dataset[0][column]), list)
