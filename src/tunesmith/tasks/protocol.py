"""What every task offers to training.

B rows of a batch, N things whose loss is taken (rows, words, tokens).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor, nn

from tunesmith.data.task_file import TaskRecord
from tunesmith.models.heads import Head
from tunesmith.models.reading import Reading

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

    from tunesmith.config.finetune import FinetuneOptions
    from tunesmith.data.prepare import Prepared
    from tunesmith.metrics.protocol import Needs
    from tunesmith.tasks.rows import Limits

Batch = Mapping[str, Tensor]


@dataclass(frozen=True)
class TaskLoss:
    """What a batch came to.

    Attributes:
        loss_sum: sum over N things, scalar float32 with gradient.
        count: N; sums of several batches divided by the sum of their counts are the loss of all of them.
        num_correct: how many of the N were predicted right, where that can be said.
        seen: while evaluating, one pair of output and label a row, for metrics; empty for tasks that are measured by sums alone.
    """

    loss_sum: Tensor
    count: int
    num_correct: int | None = None
    seen: list[tuple[Any, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Columns:
    """Which columns of the data a task reads: one text or two, and the label."""

    texts: tuple[str, ...]
    label: str


class Task(Protocol):
    """A kind of problem, with everything that training needs to know of it.

    ``record`` is what is kept beside the weights, ``teacher`` a model whose outputs the loss compares with, where there is one.
    """

    record: TaskRecord
    teacher: nn.Module | None

    @property
    def head(self) -> Head:
        """What the base model is loaded with."""

    @property
    def texts_per_row(self) -> int:
        """Sequences that the model reads for one row; a token budget counts them all."""

    @property
    def gives(self) -> tuple[Needs, ...]:
        """What metrics can be asked of at an evaluation."""

    def collate(self, rows: Sequence[Mapping[str, Any]], pad_token_id: int) -> dict[str, Tensor]:
        """Put rows as they were prepared into tensors of B rows, ``lengths`` ``(B,)`` among them: tokens of the longest text of each."""

    def part(self, batch: Batch, group: Sequence[int]) -> dict[str, Tensor]:
        """Return some rows of a batch, padded no more than they need."""

    def count(self, batch: Batch) -> int:
        """Return N of a batch."""

    def loss(self, model: nn.Module, batch: Batch) -> TaskLoss:
        """Compute the loss of (part of) a batch."""

    def metrics(self, loss: float, num_correct: int, count: int, seen: Sequence[tuple[Any, Any]]) -> dict[str, float]:
        """Return figures by name, the loss first, from what an evaluation added up."""

    def for_metric(self, needs: Needs, seen: Sequence[tuple[Any, Any]]) -> tuple[list[Any], list[list[Any]]]:
        """Return predictions and references as a metric takes them whose needs are among :attr:`gives`."""

    def settle(self, seen: Sequence[tuple[Any, Any]]) -> None:
        """After training, find what is set by validation rows (a temperature, a threshold) and put it into :attr:`record`."""


class HeadTask(Task, Protocol):
    """A task that reads rows itself, without a template."""

    @classmethod
    def from_rows(
        cls,
        columns: Columns,
        train: Dataset,
        validation: Dataset | None,
        options: FinetuneOptions,
        tokenizer: PreTrainedTokenizerBase,
        reading: Reading,
    ) -> HeadTask:
        """Make the task for data: its labels, its loss, how its rows are read.

        Args:
            columns: what is read and learnt; ``train`` and ``validation`` are the rows.
            options: of the run.
            tokenizer: the base model's; ``reading``: how that model reads.

        Raises:
            UserError: for labels or options that don't fit.
        """

    def prepare(self, dataset: Dataset, limits: Limits) -> Prepared:
        """Return the rows as token ids and labels.

        Raises:
            DataError: for a row that can't be read, with its place.
        """
