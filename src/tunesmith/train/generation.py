"""The task of writing text: the loss of a causal language model over its supervised tokens, as fast as `tunesmith.train.fast` makes it.

B rows, T tokens, N supervised tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from tunesmith.data.task_file import TaskRecord
from tunesmith.data.tokenize import IGNORE_INDEX
from tunesmith.errors import UsageError
from tunesmith.losses.check import check_labels_loss
from tunesmith.losses.load import load_loss
from tunesmith.models.heads import Head
from tunesmith.tasks.batches import WEIGHT
from tunesmith.tasks.protocol import Batch, TaskLoss
from tunesmith.tasks.text_measures import TextMeasures
from tunesmith.train.batching import collate
from tunesmith.train.fast.loss import module_loss, supervised_loss

if TYPE_CHECKING:
    from tunesmith.config.finetune import FinetuneOptions
    from tunesmith.metrics.protocol import Needs


CHUNK_TOKENS = 512


def text_loss(options: FinetuneOptions, num_tokens: int) -> nn.Module | None:
    """Return the loss that the options ask for; None for cross-entropy, which has a faster way.

    Args:
        options: ``loss`` and ``loss_kwargs``.
        num_tokens: V, size of the vocabulary.

    Raises:
        UsageError: for one that doesn't fit, or fails on a tiny batch.
    """
    name = options.loss or "cross-entropy"
    if name == "cross-entropy":
        if options.loss_kwargs:
            raise UsageError("--loss_kwargs has no effect on cross-entropy over text", fix="Leave it out, or name another --loss.")
        return None
    if name == "contrastive":
        raise UsageError("--loss contrastive compares two texts, this task learns text", fix="Use cross-entropy, or --task similarity.")
    module = load_loss(name, options.loss_kwargs)
    check_labels_loss(module, name, num_labels=num_tokens, teacher=name == "distillation")
    return module


@dataclass
class Generation(TextMeasures):
    """Rows with an answer that is learnt as text; what the rows are for is only a name (summarization, labels as text …).

    Attributes:
        loss_module: in place of cross-entropy; see :func:`text_loss`.
        by_chunks: whether its mean over all tokens is that of its means over some, so that not all logits need be there at once.
        weighted: rows have a ``weight``, a factor on the loss of all their tokens; N counts every token as one all the same.
    """

    record: TaskRecord
    loss_module: nn.Module | None = None
    by_chunks: bool = True
    weighted: bool = False
    teacher: nn.Module | None = None

    texts_per_row = 1

    @property
    def head(self) -> Head:
        """The output layer over the vocabulary."""
        return Head()

    @property
    def gives(self) -> tuple[Needs, ...]:
        """Answers as text, which the trainer has the model generate; where they are labels, choices too."""
        return ("text", "choices") if self.record.name == "text-classification" else ("text",)

    def collate(self, rows: Sequence[Mapping[str, Any]], pad_token_id: int) -> dict[str, Tensor]:
        """Return ``input_ids``, ``labels`` ``(B, T)``, ``lengths`` ``(B,)`` and, where rows are weighed, ``weight`` ``(B,)``."""
        return collate(rows, pad_token_id)

    def part(self, batch: Batch, group: Sequence[int]) -> dict[str, Tensor]:
        """Return some rows of a batch, cut to the longest of them."""
        longest = int(batch["lengths"][list(group)].max())
        part = {name: batch[name][group, :longest] for name in ("input_ids", "labels")}
        return {**part, WEIGHT: batch[WEIGHT][group]} if self.weighted else part

    def count(self, batch: Batch) -> int:
        """Tokens that are predicted and learnt: labels from the second position on."""
        return int(batch["labels"][:, 1:].ne(IGNORE_INDEX).sum())

    def loss(self, model: nn.Module, batch: Batch) -> TaskLoss:
        """Sum of token losses."""
        weights = batch[WEIGHT] if self.weighted else None
        if self.loss_module is None:
            result = supervised_loss(model, batch["input_ids"], batch["labels"], row_weights=weights)
        else:
            result = module_loss(
                model,
                batch["input_ids"],
                batch["labels"],
                self.loss_module,
                teacher=self.teacher,
                row_weights=weights,
                chunk_tokens=CHUNK_TOKENS if self.by_chunks else None,
            )
        return TaskLoss(result.loss_sum, result.num_supervised, result.num_correct)
