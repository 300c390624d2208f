"""One live line while training runs; plain lines where there is no terminal."""

from __future__ import annotations

import logging
import sys
import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text
from transformers import TrainerCallback

log = logging.getLogger(__name__)


class _Remaining(ProgressColumn):
    """Time left, from the mean of all steps so far: steadier than rich's moving window when evaluations lie between."""

    def render(self, task: Task) -> Text:
        return Text(f"{spell_seconds(task.fields['remaining'])} left" if task.fields.get("remaining") is not None else "")


class ProgressLine(TrainerCallback):  # type: ignore[misc]  # transformers is untyped
    """Step, time left, training and validation loss, tokens/s and memory."""

    def __init__(self, *, live: bool | None = None) -> None:
        self.live = sys.stderr.isatty() if live is None else live
        self.progress: Progress | None = None
        self.validation_loss: float | None = None
        self._start = 0.0
        self._first_step = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Draw the line."""
        self._start, self._first_step = time.perf_counter(), state.global_step
        if self.live:
            columns = (
                TextColumn("step {task.completed}/{task.total}"),
                BarColumn(bar_width=20),
                _Remaining(),
                TextColumn("{task.description}"),
            )
            self.progress = Progress(*columns, console=Console(stderr=True), transient=True)
            self.task = self.progress.add_task("", total=state.max_steps, completed=state.global_step)
            self.progress.start()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Move the line on."""
        if self.progress:
            self.progress.update(self.task, completed=state.global_step, remaining=self._remaining(state))

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **kwargs: Any) -> None:
        """Show the figures of a log or an evaluation."""
        if "eval_loss" in logs:
            self.validation_loss = logs["eval_loss"]
        elif "loss" not in logs:
            return
        text = describe(logs, self.validation_loss)
        if self.progress:
            if "loss" in logs:
                self.progress.update(self.task, description=text)
            return
        remaining = self._remaining(state)
        left = f", {spell_seconds(remaining)} left" if remaining is not None and state.global_step < state.max_steps else ""
        log.info("step %d/%d: %s%s", state.global_step, state.max_steps, text, left)

    def close(self) -> None:
        """Remove the line; to be called however training ended."""
        if self.progress:
            self.progress.stop()
            self.progress = None

    def _remaining(self, state: Any) -> float | None:
        done = state.global_step - self._first_step
        return (time.perf_counter() - self._start) / done * (state.max_steps - state.global_step) if done else None


def describe(logs: dict[str, float], validation_loss: float | None) -> str:
    """Put the figures of one log into a line."""
    if "loss" not in logs:
        kind = "token accuracy" if "eval_token_accuracy" in logs else "accuracy"
        share = logs.get("eval_token_accuracy", logs.get("eval_accuracy"))
        return f"validation loss {logs['eval_loss']:.4f}" + ("" if share is None else f", {kind} {share:.1%}")
    parts = [f"loss {logs['loss']:.4f}"]
    if validation_loss is not None:
        parts.append(f"validation loss {validation_loss:.4f}")
    if "tokens_per_s" in logs:
        parts.append(f"{logs['tokens_per_s']:,.0f} tokens/s")
    if "memory_gib" in logs:
        parts.append(f"{logs['memory_gib']:.1f} GiB")
    return ", ".join(parts)


def spell_seconds(seconds: float) -> str:
    """Spell a duration as people say it: 45 s, 3 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
