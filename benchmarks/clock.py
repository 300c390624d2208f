"""The clock of both sides of the training benchmark."""

from __future__ import annotations

import json
import resource
import time
from typing import Any

from transformers import TrainerCallback

from work import BATCH, WARM_UP_STEPS


class Clock(TrainerCallback):  # type: ignore[misc]  # transformers is untyped
    """Examples per second after the warm-up steps, and the loss of every step."""

    def __init__(self) -> None:
        self.start = self.end = 0.0
        self.steps = 0
        self.losses: list[float] = []

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start after the warm-up."""
        if state.global_step == WARM_UP_STEPS:
            self.start = time.time()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Every step may be the last."""
        self.end, self.steps = time.time(), state.global_step

    def on_log(self, args: Any, state: Any, control: Any, logs: Any, **kwargs: Any) -> None:
        """Keep the loss."""
        if "loss" in logs:
            self.losses.append(float(logs["loss"]))

    def report(self) -> str:
        """One line of JSON: examples per second, peak memory of the process in GB, losses."""
        rate = (self.steps - WARM_UP_STEPS) * BATCH / (self.end - self.start)
        peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        return json.dumps({"examples_per_s": rate, "peak_gb": peak_gb, "losses": self.losses})
