"""``metrics.jsonl``: one JSON object a log or evaluation, whatever other loggers are installed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from tunesmith.artifact import write_file_atomically


class MetricsLog(TrainerCallback):  # type: ignore[misc]  # transformers is untyped
    """Appends every log to a file; a resumed run first drops the lines that it will write again."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Keep the lines up to the step that training starts from."""
        kept = [row for row in read_metrics(self.file) if row["step"] <= state.global_step] if state.global_step else []
        write_file_atomically(self.file, "".join(json.dumps(row) + "\n" for row in kept))

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any], **kwargs: Any) -> None:
        """Append one line."""
        row = {"step": state.global_step, **{name: value for name, value in logs.items() if isinstance(value, int | float)}}
        with self.file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")


def read_metrics(file: Path) -> list[dict[str, float]]:
    """Return the rows of a ``metrics.jsonl``; a last line that a killed run left unfinished is left out."""
    rows: list[dict[str, float]] = []
    if file.is_file():
        for line in file.read_text(encoding="utf-8").splitlines():
            try:
                rows.append(json.loads(line))
            except ValueError:
                break
    return rows
