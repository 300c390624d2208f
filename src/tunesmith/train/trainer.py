"""The one subclass of transformers' Trainer: its loop, schedules, loggers and resuming; our loss, batches and checkpoints.

A single training step: :meth:`SupervisedTrainer.training_step`.

B rows a batch, T tokens of the longest row, N things whose loss is taken (for text: supervised tokens) in the whole effective batch.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from transformers import Trainer, TrainerCallback, TrainerControl, TrainingArguments

from tunesmith.data.prepare import Prepared
from tunesmith.errors import TunesmithError, UsageError
from tunesmith.methods.dequantized import count_parameters
from tunesmith.metrics.protocol import Metric
from tunesmith.tasks.protocol import Task
from tunesmith.train import checkpoints
from tunesmith.train.batching import LengthGroupedBatches
from tunesmith.train.fast.microbatch import micro_batches
from tunesmith.train.measure import computing, measure, overall


class NonFiniteLoss(TunesmithError):
    """A loss or gradient that is not a number; carries the step and names the rows of its batch, for one retry."""

    def __init__(self, what: str, step: int, rows: str) -> None:
        self.step = step
        super().__init__(f"{what} is not a finite number at step {step} ({rows})")


@dataclass(frozen=True)
class StepSettings:
    """How a step is computed.

    Attributes:
        max_tokens: tokens, padding included, in one forward and backward pass; a larger batch is split.
        group_by_length: rows of like length share a batch.
        autocast: compute type of ``torch.autocast``, or None when the weights already have it.
        pad_token_id: fills the end of shorter rows.
        keep_checkpoints: how many checkpoints stay on disk.
        best_metric: which validation metric decides; ``eval_loss`` unless asked otherwise.
        greater_is_better: whether more of it is better.
    """

    max_tokens: int
    pad_token_id: int
    group_by_length: bool = True
    autocast: torch.dtype | None = None
    keep_checkpoints: int | None = 2
    best_metric: str = "eval_loss"
    greater_is_better: bool = False


class NumberedRows(Dataset[dict[str, Any]]):
    """Rows that know their number, so that a batch which breaks training can be named."""

    def __init__(self, rows: Any) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {**self.rows[index], "row": index}


class SupervisedTrainer(Trainer):  # type: ignore[misc]  # transformers is untyped
    """Trains on rows of a task; loss = sum over what is learnt (for text: supervised tokens) / its number in the effective batch."""

    control: TrainerControl

    def __init__(
        self,
        *,
        model: nn.Module,
        args: TrainingArguments,
        rows: Prepared,
        eval_dataset: Any | None,
        settings: StepSettings,
        task: Task,
        callbacks: Sequence[TrainerCallback] = (),
        metrics: Sequence[Metric] = (),
        generation_metrics: Callable[[], dict[str, float]] | None = None,
    ) -> None:
        super().__init__(
            model=model,
            args=args,
            train_dataset=NumberedRows(rows.dataset),
            eval_dataset=eval_dataset,
            data_collator=functools.partial(self._collate, task=task, pad_token_id=settings.pad_token_id),
            callbacks=list(callbacks),
        )
        self.settings = settings
        self.rows = rows
        self.task = task
        self.metrics = metrics
        self.generation_metrics = generation_metrics
        self.model_accepts_loss_kwargs = True  # the loss is divided by what is learnt in the whole batch, see training_step
        self.checkpoints = Path(args.output_dir)
        self.best_value: float | None = None
        self.rows_of_step: list[int] = []
        self.tokens_seen = 0

    # Data

    @staticmethod
    def _collate(rows: list[dict[str, Any]], task: Task, pad_token_id: int) -> dict[str, torch.Tensor]:
        batch = task.collate(rows, pad_token_id)
        batch["rows"] = torch.tensor([row["row"] for row in rows])
        return batch

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return batches of like length in an order that the seed and the epoch alone decide."""
        sampler = LengthGroupedBatches(
            self.rows.lengths().tolist(),
            self._train_batch_size,
            seed=self.args.data_seed if self.args.data_seed is not None else self.args.seed,
            group_by_length=self.settings.group_by_length,
            drop_last=self.args.dataloader_drop_last,
        )
        loader: DataLoader[Any] = DataLoader(
            self.train_dataset,
            batch_sampler=sampler,
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory and torch.cuda.is_available(),
            persistent_workers=self.args.dataloader_persistent_workers,
            prefetch_factor=self.args.dataloader_prefetch_factor,
        )
        return self.accelerator.prepare(loader)  # type: ignore[no-any-return]

    # A step

    def training_step(
        self, model: nn.Module, inputs: dict[str, torch.Tensor], num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """Forward and backward over one batch, in parts of at most ``max_tokens`` tokens.

        Args:
            inputs: what the task's ``collate`` made of B rows, ``input_ids`` ``(B, T)`` and ``lengths`` ``(B,)`` among it.
            num_items_in_batch: N, over all batches that make this optimizer step.

        Returns: this batch's share of the loss, a float32 scalar; the shares of one optimizer step add up to its loss.
        Raises:
            NonFiniteLoss: when the loss is NaN or infinite; no gradient of it has been used yet.
        """
        model.train()
        self.rows_of_step = inputs["rows"].tolist()
        count = self.task.count(inputs) if num_items_in_batch is None else int(num_items_in_batch)
        total = torch.zeros((), dtype=torch.float32, device=self.args.device)
        for part in self.parts(inputs):
            with computing(self.args.device, self.settings.autocast, part["input_ids"].shape[1]):
                loss = self.task.loss(model, part).loss_sum / max(count, 1)
            if not torch.isfinite(loss):
                raise self.non_finite("the loss")
            self.accelerator.backward(loss * self.accelerator.gradient_accumulation_steps)  # which it divides by; 1 unless configured
            total += loss.detach()
        self.tokens_seen += int(inputs["lengths"].sum()) * self.task.texts_per_row
        return total

    def parts(self, inputs: dict[str, torch.Tensor]) -> list[dict[str, torch.Tensor]]:
        """Split a batch into parts of like length, each cut to its longest row and moved to the device."""
        lengths = inputs["lengths"].tolist()
        max_tokens = self.settings.max_tokens // self.task.texts_per_row
        parts = (self.task.part(inputs, group) for group in micro_batches(lengths, max_tokens=max_tokens))
        return [{name: tensor.to(self.args.device) for name, tensor in part.items()} for part in parts]

    def _get_num_items_in_batch(self, batch_samples: list[dict[str, torch.Tensor]], device: torch.device) -> torch.Tensor:
        count = torch.tensor(sum(self.task.count(batch) for batch in batch_samples), device=device)
        if self.args.average_tokens_across_devices and self.args.world_size > 1:
            count = self.accelerator.gather(count).sum()
        return count

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        value = super()._get_grad_norm(model, grad_norm=grad_norm)
        if value is not None and not math.isfinite(float(value)):
            raise self.non_finite("the gradient")
        return value

    def non_finite(self, what: str) -> NonFiniteLoss:
        """The error that names the step, and the rows of the data that it was computed from."""
        return NonFiniteLoss(what, self.state.global_step + 1, self.rows.in_words(self.rows_of_step))

    def floating_point_ops(self, inputs: dict[str, torch.Tensor]) -> int:
        """Six operations a weight and token; the base class walks all modules at every step to count the weights."""
        return 6 * int(inputs["lengths"].sum()) * self._num_weights

    @functools.cached_property
    def _num_weights(self) -> int:
        return count_parameters(self.model)

    # Evaluation

    @torch.no_grad()
    def evaluate(self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval") -> dict[str, float]:
        """Validation loss and what else the task says of it; memory is bounded by ``max_tokens`` rows of hidden states, never all logits.

        Returns: for text ``eval_loss``, ``eval_perplexity``, ``eval_token_accuracy``; the metrics asked for; ``eval_runtime`` (s).
        """
        dataset = self.eval_dataset if eval_dataset is None else eval_dataset
        model, start = self.model, time.time()
        model.eval()
        settings = self.settings
        found = measure(
            model,
            self.task,
            dataset,
            max_tokens=settings.max_tokens,
            pad_token_id=settings.pad_token_id,
            device=self.args.device,
            autocast=settings.autocast,
        )
        metrics = {
            **self.task.metrics(found.loss, found.num_correct, found.count, found.seen),
            **self._asked_metrics(found.seen),
            **(self.generation_metrics() if self.generation_metrics else {}),
            "runtime": time.time() - start,
        }
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in metrics.items()}
        model.train()
        self.keep_if_best(metrics)
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _asked_metrics(self, seen: Sequence[tuple[Any, Any]]) -> dict[str, float]:
        """Figures of the metrics that the user named."""
        values: dict[str, float] = {}
        for metric in self.metrics:
            values.update(overall(metric.compute(*self.task.for_metric(metric.needs, seen))))
        return values

    def keep_if_best(self, metrics: dict[str, float]) -> None:
        """Save the trainable weights when this evaluation is the best of the run; the untouched model (step 0) doesn't count."""
        value = metrics.get(self.settings.best_metric)
        if value is None:
            known = ", ".join(name.removeprefix("eval_") for name in metrics if name != "eval_runtime")
            asked = self.settings.best_metric.removeprefix("eval_")
            raise UsageError(
                f"--metric_for_best_model {asked}: no such figure is made; there is: {known}", fix="Name it in --eval_metrics too."
            )
        if self.state.global_step == 0 or not self.is_in_train:
            return
        if self.best_value is None or (value > self.best_value if self.settings.greater_is_better else value < self.best_value):
            self.best_value = value
            self.state.best_metric, self.state.best_global_step = value, self.state.global_step
            checkpoints.save_best(self.model, self.checkpoints, step=self.state.global_step, value=value)

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        return bool(self.state.best_global_step == self.state.global_step)

    # Checkpoints

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        final = self.args.output_dir
        self.args.output_dir = str(self.checkpoints / checkpoints.STAGING)
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self.args.output_dir = final
        checkpoints.publish(self.checkpoints, self.state.global_step, keep=self.settings.keep_checkpoints)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write the trainable weights alone; the frozen ones are the base model's."""
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        checkpoints.save_trainable(self.model, folder)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        checkpoints.load_trainable(self.model if model is None else model, Path(resume_from_checkpoint))

    def _init_training_state(self, *args: Any, **kwargs: Any) -> tuple[int, int]:
        trained: tuple[int, int] = super()._init_training_state(*args, **kwargs)
        self.best_value = self.state.best_metric
        return trained
