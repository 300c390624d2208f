"""What the machine does while it trains: throughput, memory, processor, GPU and disk, as scalars beside the loss."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import torch
from transformers import TrainerCallback

if TYPE_CHECKING:
    from tunesmith.train.trainer import SupervisedTrainer

GIB = 2**30


class Gauges(TrainerCallback):  # type: ignore[misc]  # transformers is untyped
    """Adds ``tokens_per_s``, ``examples_per_s``, ``memory_gib``, ``cpu_percent``, ``disk_free_gib`` (and the GPU's) to each training log.

    It has to come before every callback that writes logs, since it adds to the same dictionary.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.trainer: SupervisedTrainer | None = None
        self.process = psutil.Process()
        self.peak_bytes = 0
        self.training_s = 0.0
        self._since = 0.0
        self._tokens = 0
        self._steps_before = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start counting."""
        self.process.cpu_percent()  # the first call only sets the reference point
        self._restart(state.global_step)

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: dict[str, float], **kwargs: Any) -> None:
        """Leave the time of the evaluation out of the throughput."""
        self._since += next((value for name, value in metrics.items() if name.endswith("_runtime")), 0.0)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Note the memory in use."""
        self.peak_bytes = max(self.peak_bytes, self.process.memory_info().rss)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **kwargs: Any) -> None:
        """Add the gauges to a training log."""
        if "loss" not in logs or self.trainer is None:
            return
        seconds = max(time.perf_counter() - self._since, 1e-9)
        steps = state.global_step - self._steps_before
        self.training_s += seconds
        logs["tokens_per_s"] = round((self.trainer.tokens_seen - self._tokens) / seconds, 1)
        logs["examples_per_s"] = round(steps * args.per_device_train_batch_size * args.gradient_accumulation_steps / seconds, 2)
        logs["memory_gib"] = round(self.process.memory_info().rss / GIB, 3)
        logs["cpu_percent"] = self.process.cpu_percent()
        logs["disk_free_gib"] = round(shutil.disk_usage(self.folder).free / GIB, 2)
        if torch.cuda.is_available():
            logs["gpu_memory_gib"] = round(torch.cuda.memory_allocated() / GIB, 3)
            logs["gpu_memory_peak_gib"] = round(torch.cuda.max_memory_allocated() / GIB, 3)
        self._restart(state.global_step)

    def _restart(self, step: int) -> None:
        self._since = time.perf_counter()
        self._steps_before = step
        self._tokens = self.trainer.tokens_seen if self.trainer else 0
