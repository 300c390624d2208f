"""Text classification with a head: a layer on the last hidden state (encoders: on the first token's) that scores every label.

B rows, T tokens, L labels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from tunesmith.data.head_inputs import encode_for_head, encode_pairs, types_pairs
from tunesmith.data.labels import labels_of_cell, sort_labels
from tunesmith.data.placeholders import as_text
from tunesmith.data.task_file import TaskRecord
from tunesmith.errors import DataError
from tunesmith.models.heads import Head
from tunesmith.models.reading import Reading
from tunesmith.tasks.batches import pad, take
from tunesmith.tasks.calibration import fit_temperature
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


#: As many labels without a single one that repeats are no labels.
MANY_LABELS = 10


@dataclass(frozen=True)
class _Row:
    texts: tuple[str, ...]
    labels: list[int]


class Classification:
    """Rows of one text (or two, as a pair) and a label, or a list of labels."""

    texts_per_row = 1
    gives: tuple[Needs, ...] = ("choices", "probabilities")

    def __init__(self, record: TaskRecord, tokenizer: PreTrainedTokenizerBase, loss: nn.Module) -> None:
        self.record = record
        self.tokenizer = tokenizer
        self.loss_module = loss
        self.teacher: nn.Module | None = None
        self._numbers = {label: number for number, label in enumerate(record.labels)}

    @classmethod
    def from_rows(
        cls,
        columns: Columns,
        train: Dataset,
        validation: Dataset | None,
        options: FinetuneOptions,
        tokenizer: PreTrainedTokenizerBase,
        reading: Reading,
    ) -> Classification:
        """Make the task for data; labels that only validation rows have are known too, though they can't be learnt.

        Raises:
            UserError: for a single label, or a loss or weights that don't fit.
        """
        multi_label = _is_list(train, columns.label)
        counts: Counter[str] = Counter()
        for value in train[columns.label]:
            counts.update(labels_of_cell(value))
        others = {label for value in (validation[columns.label] if validation is not None else ()) for label in labels_of_cell(value)}
        labels = sort_labels({*counts, *others})
        if len(labels) < (1 if multi_label else 2):
            found = f"'{labels[0]}' alone" if labels else "no label"
            raise DataError(f"column '{columns.label}' has {found}, there is nothing to tell apart", fix="Give rows of two labels or more.")
        if len(counts) >= MANY_LABELS and max(counts.values()) == 1:
            raise DataError(f"every row has a label of its own in '{columns.label}': these are answers", fix="Leave --head out.")
        record = TaskRecord(
            name="text-classification",
            head=True,
            labels=labels,
            multi_label=multi_label,
            text_columns=columns.texts,
            label_column=columns.label,
            threshold=0.5 if multi_label else None,
            token_types=len(columns.texts) == 2 and reading.token_types and types_pairs(tokenizer),
        )
        return cls(record, tokenizer, label_loss(options, labels, counts, multi_label=multi_label))

    @property
    def head(self) -> Head:
        """A layer that scores the labels."""
        return Head("text-classification", self.record.labels, self.record.multi_label, int(self.tokenizer.pad_token_id))

    # Rows

    def prepare(self, dataset: Dataset, limits: Limits) -> Prepared:
        """Return the rows as token ids and the number of their label, or zeros and ones for each label."""
        from datasets import List, Value

        features = {"labels": List(Value("float32")) if self.record.multi_label else Value("int32")}
        if self.record.token_types:
            features["token_type_ids"] = List(Value("int8"))
        return prepare_rows(dataset, self._read, self._tokenize, features, limits)

    def _read(self, row: Mapping[str, Any]) -> _Row | None:
        value = row.get(self.record.label_column or "")
        labels = labels_of_cell(value)
        if value is None or not (labels or self.record.multi_label):
            return None
        texts = tuple(as_text(row.get(column)) for column in self.record.text_columns)
        if not any(text.strip() for text in texts):
            raise DataError(f"column '{self.record.text_columns[0]}' is empty", fix="Remove the row, or give it a text.")
        return _Row(texts, [self._numbers[label] for label in labels])

    def _tokenize(self, rows: Sequence[_Row], longest: int | None) -> list[dict[str, Any]]:
        texts = [row.texts for row in rows]
        if self.record.token_types:
            ids, types = encode_pairs(texts, self.tokenizer, max_seq_len=longest)
            more = [{"token_type_ids": row} for row in types]
        else:
            ids, more = encode_for_head(texts, self.tokenizer, max_seq_len=longest), [{} for _ in rows]
        return [
            {"input_ids": one, "labels": self._target(row.labels), "length": len(one), "num_supervised": 1, **types_of}
            for one, row, types_of in zip(ids, rows, more, strict=True)
        ]

    def _target(self, labels: list[int]) -> int | list[float]:
        if not self.record.multi_label:
            return labels[0]
        return [float(number in labels) for number in range(len(self.record.labels))]

    # Batches

    def collate(self, rows: Sequence[Mapping[str, Any]], pad_token_id: int) -> dict[str, Tensor]:
        """Return ``input_ids`` (of pairs ``token_type_ids`` too) ``(B, T)``, ``labels`` ``(B,)`` or ``(B, L)``, ``lengths`` ``(B,)``."""
        input_ids, lengths = pad([row["input_ids"] for row in rows], pad_token_id)
        dtype = torch.float32 if self.record.multi_label else torch.long
        batch = {"input_ids": input_ids, "lengths": lengths, "labels": torch.tensor([row["labels"] for row in rows], dtype=dtype)}
        if self.record.token_types:
            batch["token_type_ids"], _ = pad([row["token_type_ids"] for row in rows], 0)
        return batch

    def part(self, batch: Batch, group: Sequence[int]) -> dict[str, Tensor]:
        """Return some rows of a batch, padded no more than they need."""
        return take(batch, group, {name: "lengths" for name in ("input_ids", "token_type_ids") if name in batch})

    def count(self, batch: Batch) -> int:
        """Rows count."""
        return len(batch["labels"])

    def loss(self, model: nn.Module, batch: Batch) -> TaskLoss:
        """Compute the loss of a batch; rows are right when their likeliest label, or the whole set of theirs above one half, is."""
        logits, labels = head_logits(model, batch).float(), batch["labels"]  # (B, L)
        given = [logits, labels]
        if self.teacher is not None:
            with torch.no_grad():
                given.append(head_logits(self.teacher, batch).float())
        loss_sum = self.loss_module(*given) * len(labels)
        right = ((logits > 0) == (labels > 0)).all(dim=-1) if self.record.multi_label else logits.argmax(dim=-1) == labels
        seen = [] if torch.is_grad_enabled() else list(zip(logits.cpu(), labels.cpu(), strict=True))
        return TaskLoss(loss_sum, len(labels), int(right.sum()), seen)

    # Measuring

    def metrics(self, loss: float, num_correct: int, count: int, seen: Sequence[tuple[Any, Any]]) -> dict[str, float]:
        """Loss and accuracy (with several labels a row: of whole sets)."""
        return {"loss": loss, "accuracy": num_correct / max(count, 1)}

    def for_metric(self, needs: Needs, seen: Sequence[tuple[Any, Any]]) -> tuple[list[Any], list[list[Any]]]:
        """Labels, or probabilities by label, with the right labels."""
        names = self.record.labels
        predictions: list[Any] = []
        references: list[list[Any]] = []
        for logits, label in seen:
            scores = logits.sigmoid() if self.record.multi_label else logits.softmax(-1)
            right = [names[index] for index in label.nonzero().flatten()] if self.record.multi_label else [names[int(label)]]
            references.append([tuple(right)] if self.record.multi_label and needs == "choices" else right)
            if needs == "probabilities":
                predictions.append(dict(zip(names, scores.tolist(), strict=True)))
            elif self.record.multi_label:
                predictions.append(tuple(name for name, score in zip(names, scores.tolist(), strict=True) if score > 0.5))
            else:
                predictions.append(names[int(scores.argmax())])
        return predictions, references

    def settle(self, seen: Sequence[tuple[Any, Any]]) -> None:
        """Find the temperature with which probabilities fit the validation rows best."""
        if seen:
            logits, labels = (torch.stack(column) for column in zip(*seen, strict=True))
            self.record = replace(self.record, temperature=round(fit_temperature(logits, labels), 4))


def _is_list(dataset: Dataset, column: str) -> bool:
    from datasets import List

    return isinstance(dataset.features[column], List)
