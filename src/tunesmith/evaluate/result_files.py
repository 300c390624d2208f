"""What an evaluation leaves in a folder: ``predictions.jsonl`` and ``metrics.json``."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.artifact import write_file_atomically
from tunesmith.errors import OutputError

if TYPE_CHECKING:
    from tunesmith.evaluate.evaluation import Evaluation

PREDICTIONS_FILE, METRICS_FILE = "predictions.jsonl", "metrics.json"


def check_free(folder: str | Path | None, *, overwrite: bool) -> Path | None:
    """Return where predictions go, None without a folder.

    Raises:
        OutputError: when results are there already, or the folder is a file.
    """
    if folder is None:
        return None
    place = Path(folder).expanduser()
    if place.is_file():
        raise OutputError(f"--output_path {folder} is a file", fix="Name a folder")
    there = [name for name in (PREDICTIONS_FILE, METRICS_FILE) if (place / name).exists()]
    if there and not overwrite:
        raise OutputError(f"{place / there[0]} is there already", fix="Choose another --output_path, or replace it with --overwrite")
    return place / PREDICTIONS_FILE


def write_metrics(folder: Path, found: Evaluation) -> None:
    """Write the figures as one JSON object; those that are not finite as null."""
    figures = {name: value if math.isfinite(value) else None for name, value in found.metrics.items()}
    values = {"task": found.task, "num_rows": found.num_rows, "metrics": figures, "speed": found.speed, "words": list(found.words)}
    place = folder.expanduser()
    place.mkdir(parents=True, exist_ok=True)
    write_file_atomically(place / METRICS_FILE, json.dumps(values, indent=2, ensure_ascii=False) + "\n")
