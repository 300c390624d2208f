"""The one subclass of transformers' Trainer: its loop, schedules, loggers and resuming; our loss, batches and checkpoints.

A single training step: :meth:`SupervisedTrainer.training_step`.

B rows a batch, T tokens of the longest row, N supervised tokens of the whole effective batch.
"""

from __future__ import annotations

import contextlib
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

from tunesmith.data.columns import number_column
from tunesmith.data.prepare import Prepared
from tunesmith.data.tokenize import IGNORE_INDEX
from tunesmith.errors import TunesmithError
from tunesmith.methods.dequantized import count_parameters
from tunesmith.train import checkpoints
from tunesmith.train.batching import LengthGroupedBatches, collate
from tunesmith.train.fast.attention import attention_kernel
from tunesmith.train.fast.loss import supervised_loss
from tunesmith.train.fast.microbatch import micro_batches


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
    """Trains on rows of ``input_ids`` and ``labels``; loss = sum over supervised tokens / their number in the effective batch."""

    control: TrainerControl

    def __init__(
        self,
        *,
        model: nn.Module,
        args: TrainingArguments,
        rows: Prepared,
        eval_dataset: Any | None,
        settings: StepSettings,
        callbacks: Sequence[TrainerCallback] = (),
        generation_metrics: Callable[[], dict[str, float]] | None = None,
    ) -> None:
        super().__init__(
            model=model,
            args=args,
            train_dataset=NumberedRows(rows.dataset),
            eval_dataset=eval_dataset,
            data_collator=functools.partial(self._collate, pad_token_id=settings.pad_token_id),
            callbacks=list(callbacks),
        )
        self.settings = settings
        self.rows = rows
        self.generation_metrics = generation_metrics
        self.model_accepts_loss_kwargs = True  # the loss is divided by the whole batch's supervised tokens, see training_step
        self.checkpoints = Path(args.output_dir)
        self.best_value: float | None = None
        self.rows_of_step: list[int] = []
        self.tokens_seen = 0

    # Data

    @staticmethod
    def _collate(rows: list[dict[str, Any]], pad_token_id: int) -> dict[str, torch.Tensor]:
        batch = collate(rows, pad_token_id)
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
            inputs: ``input_ids``, ``labels`` ``(B, T)``, ``lengths`` ``(B,)``.
            num_items_in_batch: supervised tokens of all batches that make this optimizer step.

        Returns: this batch's share of the loss, a float32 scalar; the shares of one optimizer step add up to its loss.
        Raises:
            NonFiniteLoss: when the loss is NaN or infinite; no gradient of it has been used yet.
        """
        model.train()
        self.rows_of_step = inputs["rows"].tolist()
        num_supervised = self.supervised_count(inputs) if num_items_in_batch is None else int(num_items_in_batch)
        total = torch.zeros((), dtype=torch.float32, device=self.args.device)
        for part in self.parts(inputs):
            with self.computing(part["input_ids"].shape[1]):
                loss = supervised_loss(model, part["input_ids"], part["labels"]).loss_sum / max(num_supervised, 1)
            if not torch.isfinite(loss):
                raise self.non_finite("the loss")
            self.accelerator.backward(loss * self.accelerator.gradient_accumulation_steps)  # which it divides by; 1 unless configured
            total += loss.detach()
        self.tokens_seen += int(inputs["lengths"].sum())
        return total

    def parts(self, inputs: dict[str, torch.Tensor]) -> list[dict[str, torch.Tensor]]:
        """Split a batch into parts of like length, each cut to its longest row and moved to the device."""
        lengths = inputs["lengths"].tolist()
        return [
            {name: inputs[name][group, : max(lengths[index] for index in group)].to(self.args.device) for name in ("input_ids", "labels")}
            for group in micro_batches(lengths, max_tokens=self.settings.max_tokens)
        ]

    @staticmethod
    def supervised_count(inputs: dict[str, torch.Tensor]) -> int:
        """Number of tokens that are predicted and learnt: labels from the second position on."""
        return int(inputs["labels"][:, 1:].ne(IGNORE_INDEX).sum())

    @contextlib.contextmanager
    def computing(self, length: int) -> Any:
        """The attention kernel for this row length and, where the weights are wider than the compute type, autocast."""
        dtype = self.settings.autocast
        autocast = torch.autocast(self.args.device.type, dtype=dtype) if dtype is not None else contextlib.nullcontext()
        with attention_kernel(length, self.args.device), autocast:
            yield

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
        """Validation loss and token accuracy; memory is bounded by ``max_tokens`` rows of hidden states, never all logits.

        Returns: ``eval_loss``, ``eval_perplexity``, ``eval_token_accuracy``, ``eval_runtime`` (s), and generation metrics if asked for.
        """
        dataset = self.eval_dataset if eval_dataset is None else eval_dataset
        model, start = self.model, time.time()
        model.eval()
        loss_sum, num_supervised, num_correct = 0.0, 0, 0
        for group in micro_batches(number_column(dataset, "length").tolist(), max_tokens=self.settings.max_tokens):
            batch = collate([dataset[index] for index in group], self.settings.pad_token_id)
            with self.computing(batch["input_ids"].shape[1]):
                result = supervised_loss(model, batch["input_ids"].to(self.args.device), batch["labels"].to(self.args.device))
            loss_sum += float(result.loss_sum)
            num_supervised += int(result.num_supervised)
            num_correct += int(result.num_correct)
        loss = loss_sum / max(num_supervised, 1)
        metrics = {
            "loss": loss,
            "perplexity": math.exp(min(loss, 50.0)),
            "token_accuracy": num_correct / max(num_supervised, 1),
            **(self.generation_metrics() if self.generation_metrics else {}),
            "runtime": time.time() - start,
        }
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in metrics.items()}
        model.train()
        self.keep_if_best(metrics)
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def keep_if_best(self, metrics: dict[str, float]) -> None:
        """Save the trainable weights when this evaluation is the best of the run; the untouched model (step 0) doesn't count."""
        value = metrics.get(self.settings.best_metric)
        if value is None or self.state.global_step == 0 or not self.is_in_train:
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
