"""Text to text on encoder-decoders (T5, BART): the encoder reads the prompt, the decoder learns the answer.

B rows, T tokens of the longest prompt, S of the longest answer, N tokens of all answers, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from tunesmith.data.head_inputs import encode_for_head
from tunesmith.data.task_file import TaskRecord
from tunesmith.data.templates import Template
from tunesmith.data.tokenize import IGNORE_INDEX
from tunesmith.errors import DataError
from tunesmith.models.heads import Head
from tunesmith.models.structure import causal_lm
from tunesmith.tasks.batches import WEIGHT, mask_of, pad, row_weights, take
from tunesmith.tasks.protocol import Batch, TaskLoss
from tunesmith.tasks.rows import Limits, prepare_rows
from tunesmith.tasks.text_measures import TextMeasures

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

    from tunesmith.data.prepare import Prepared
    from tunesmith.metrics.protocol import Needs


@dataclass(frozen=True)
class _Row:
    prompt: str
    answer: str


class SequenceToSequence(TextMeasures):
    """Rows with an answer, on a model that reads and writes with two different halves."""

    texts_per_row = 2  # a prompt and an answer, each padded to the longest of its own

    def __init__(
        self,
        record: TaskRecord,
        template: Template,
        tokenizer: PreTrainedTokenizerBase,
        loss: nn.Module | None = None,
        *,
        weighted: bool = False,
    ) -> None:
        """``loss``: in place of cross-entropy; ``weighted``: rows have a ``weight``, a factor on the loss of all their tokens."""
        self.record = record
        self.template = template
        self.tokenizer = tokenizer
        self.loss_module = loss
        self.weighted = weighted
        self.teacher: nn.Module | None = None

    @property
    def head(self) -> Head:
        """The decoder's output layer."""
        return Head("sequence-to-sequence")

    @property
    def gives(self) -> tuple[Needs, ...]:
        """Answers as text, which the trainer has the model generate; where they are labels, choices too."""
        return ("text", "choices") if self.record.name == "text-classification" else ("text",)

    # Rows

    def prepare(self, dataset: Dataset, limits: Limits) -> Prepared:
        """Return the rows as token ids of prompt and answer, each with what the tokenizer ends a text with."""
        from datasets import List, Value

        return prepare_rows(dataset, self._read, self._tokenize, {"labels": List(Value("int32"))}, limits)

    def _read(self, row: Mapping[str, Any]) -> _Row | None:
        answers = self.template.answers(row)
        if not answers:
            return None
        prompt = self.template.prompt(row, self.tokenizer)
        if not prompt.strip():
            raise DataError("the prompt is empty", fix="Remove the row, or give it a text.")
        return _Row(prompt, answers[0])

    def _tokenize(self, rows: Sequence[_Row], longest: int | None) -> list[dict[str, Any]]:
        prompts = encode_for_head([(row.prompt,) for row in rows], self.tokenizer, max_seq_len=longest)
        answers = encode_for_head([(row.answer,) for row in rows], self.tokenizer, max_seq_len=longest)
        return [
            {"input_ids": ids, "labels": labels, "length": max(len(ids), len(labels)), "num_supervised": len(labels)}
            for ids, labels in zip(prompts, map(self._ended, answers), strict=True)
        ]

    def _ended(self, ids: list[int]) -> list[int]:
        """An answer that ends: tokenizers of T5 and BART say so themselves."""
        end = self.tokenizer.eos_token_id
        return ids if end is None or ids[-1:] == [end] else [*ids, int(end)]

    # Batches

    def collate(self, rows: Sequence[Mapping[str, Any]], pad_token_id: int) -> dict[str, Tensor]:
        """Return ``input_ids`` ``(B, T)``, ``labels`` ``(B, S)``, the lengths of both, and the longer of the two."""
        input_ids, input_lengths = pad([row["input_ids"] for row in rows], pad_token_id)
        labels, label_lengths = pad([row["labels"] for row in rows], IGNORE_INDEX)
        return {
            "input_ids": input_ids,
            "input_lengths": input_lengths,
            "labels": labels,
            "label_lengths": label_lengths,
            "lengths": torch.maximum(input_lengths, label_lengths),
            **row_weights(rows),
        }

    def part(self, batch: Batch, group: Sequence[int]) -> dict[str, Tensor]:
        """Return some rows of a batch, padded no more than they need."""
        return take(batch, group, {"input_ids": "input_lengths", "labels": "label_lengths"})

    def count(self, batch: Batch) -> int:
        """Tokens of answers count."""
        return int(batch["labels"].ne(IGNORE_INDEX).sum())

    def loss(self, model: nn.Module, batch: Batch) -> TaskLoss:
        """Compute the loss over the answers' tokens of a batch."""
        supervised = batch["labels"] != IGNORE_INDEX  # (B, S)
        labels = batch["labels"][supervised]  # (N,)
        logits = _logits(model, batch)[supervised].float()  # (N, V)
        weights = [batch[WEIGHT].repeat_interleave(supervised.sum(dim=1))] if self.weighted else []  # (N,)
        if self.loss_module is None:
            losses = nn.functional.cross_entropy(logits, labels, reduction="none")
            loss_sum = (losses * weights[0] if weights else losses).sum()
        else:
            given = [logits, labels, *weights]
            if self.teacher is not None:
                with torch.no_grad():
                    given.append(_logits(self.teacher, batch)[supervised].float())
            loss_sum = self.loss_module(*given) * len(labels)
        return TaskLoss(loss_sum, len(labels), int((logits.argmax(dim=-1) == labels).sum()))


def _logits(model: nn.Module, batch: Batch) -> Tensor:
    """``(B, S, V)``: what the decoder expects at each place of the answers, which it reads shifted by one."""
    base: Any = causal_lm(model)
    shifted = base.prepare_decoder_input_ids_from_labels(labels=batch["labels"])
    mask = mask_of(batch["input_lengths"], batch["input_ids"].shape[1])
    logits: Tensor = model(input_ids=batch["input_ids"], attention_mask=mask, decoder_input_ids=shifted, use_cache=False).logits
    return logits
