"""Ctrl-C: the first finishes the step, saves and stops; the second stops at once."""

from __future__ import annotations

import logging
import signal
import threading
from types import FrameType
from typing import Any

from transformers import TrainerCallback

log = logging.getLogger(__name__)


class Interrupted(KeyboardInterrupt):
    """Training was interrupted and has saved where it was; the message says how to go on."""


class SaveOnInterrupt(TrainerCallback):  # type: ignore[misc]  # transformers is untyped
    """While training runs, turns SIGINT and SIGTERM into a checkpoint and a clean stop."""

    def __init__(self) -> None:
        self.asked = False
        self._previous: dict[int, Any] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Take the signals over; only a program's main thread may."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._ask)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Save and stop when asked to."""
        if self.asked:
            control.should_save = True
            control.should_training_stop = True

    def release(self) -> None:
        """Give the signals back; to be called however training ended."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            self.release()
            raise KeyboardInterrupt
        self.asked = True
        log.warning("finishing this step, then saving a checkpoint (once more to stop at once)")
