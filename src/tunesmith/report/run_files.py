"""What a run's folder holds, read for the report and for the diagnosis; whatever is missing or broken is left out, not an error."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith.artifact import Manifest, read_manifest
from tunesmith.data.task_file import TaskRecord, read_task
from tunesmith.errors import ModelError
from tunesmith.evaluate.verdict import Verdict, read_verdict
from tunesmith.run_folder import BASE_PREDICTIONS, CUT_ROWS, HELD_OUT, METRICS, PREDICTIONS


@dataclass(frozen=True)
class Answered:
    """One held-out row with what both models made of it.

    Attributes:
        number: 1-based, among the rows that were answered.
        input, references: what was asked and what is right.
        base, tuned: answers; base None where the base was not asked.
        base_score, tuned_score: greater is better; None where a row has no score.
        stopped: whether the tuned model's answer ended by itself.
        probability: of the label that the tuned model chose, where it chooses among labels.
    """

    number: int
    input: str
    references: tuple[str, ...]
    tuned: str
    tuned_score: float | None
    base: str | None = None
    base_score: float | None = None
    stopped: bool = True
    probability: float | None = None

    @property
    def change(self) -> float:
        """By how much the tuned model is better on this row; 0 where that is not known."""
        if self.base_score is None or self.tuned_score is None:
            return 0.0
        return self.tuned_score - self.base_score


@dataclass(frozen=True)
class RunFiles:
    """A finished run as its files tell it.

    Attributes:
        folder: the run's; ``manifest``: what it is; ``task``: what its model does.
        history: the rows of ``metrics.jsonl``.
        verdict: None where none was given.
        answered: held-out rows with both models' answers; none before the verdict.
        num_held_out: rows held out of training.
        num_cut, num_dropped: training rows that were cut, or left out, because they were too long.
    """

    folder: Path
    manifest: Manifest
    task: TaskRecord
    history: tuple[Mapping[str, float], ...] = ()
    verdict: Verdict | None = None
    answered: tuple[Answered, ...] = ()
    num_held_out: int = 0
    num_cut: int = 0
    num_dropped: int = 0

    def option(self, name: str) -> Any:
        """Return the value of an option that the run was given or that was chosen; None where it has none."""
        return self.manifest.options.get(name, {}).get("value")

    def series(self, name: str) -> list[tuple[float, float]]:
        """Return (step, value) of one of the figures in the history."""
        found = [(row["step"], row[name]) for row in self.history if _is_number(row.get(name)) and _is_number(row.get("step"))]
        return sorted(dict(found).items())


def run_name(folder: Path) -> str:
    """Return what a run, or another folder, is called: its name."""
    return folder.resolve().name


def short_name(name: str | None) -> str:
    """Return a model's or data set's name without the folders of this machine."""
    if not name:
        return "a model"
    path = Path(name)
    return path.name if path.is_absolute() or len(path.parts) > 2 or path.exists() else name


def read_run_files(folder: Path) -> RunFiles:
    """Read a finished run's folder.

    Raises:
        ModelError: when it is not the folder of a finished run.
    """
    manifest = read_manifest(folder) if folder.is_dir() else None
    if manifest is None or manifest.kind != "finetune":
        what = "does not exist" if not folder.exists() else "is a file" if folder.is_file() else "holds no finished fine-tuning"
        resume = f"Finish it first: tunesmith finetune --resume --output_path {folder}"
        fix = resume if (folder / "checkpoints").is_dir() else "Name the output folder of a finished tunesmith finetune"
        raise ModelError(f"{folder} {what}", fix=fix)
    weights = folder / "adapter" if (folder / "adapter").is_dir() else folder / "model"
    cut = list(read_json_lines(folder / CUT_ROWS))
    dropped = sum(str(row.get("what", "")).startswith("drop") for row in cut)
    return RunFiles(
        folder=folder,
        manifest=manifest,
        task=read_task(weights) or TaskRecord(manifest.task or "text-generation"),
        history=tuple(read_json_lines(folder / METRICS)),
        verdict=read_verdict(folder),
        answered=tuple(_answered(folder)),
        num_held_out=sum(1 for _ in read_json_lines(folder / HELD_OUT)),
        num_cut=len(cut) - dropped,
        num_dropped=dropped,
    )


def read_json_lines(file: Path) -> Iterator[Mapping[str, Any]]:
    """Yield the objects of a file of JSON lines; none where there is no file, and no line that is no object."""
    if not file.is_file():
        return
    with file.open(encoding="utf-8", errors="replace") as stream:
        for line in stream:
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict):
                yield row


def _answered(folder: Path) -> Iterator[Answered]:
    """Join both models' answers row by row."""
    base = {row.get("row"): row for row in read_json_lines(folder / BASE_PREDICTIONS)}
    for number, row in enumerate(read_json_lines(folder / PREDICTIONS), 1):
        other = base.get(row.get("row"), {})
        yield Answered(
            number=number,
            input=_text(row.get("input")),
            references=tuple(_text(text) for text in _listed(row.get("references"))),
            tuned=_text(row.get("output")),
            tuned_score=_number(row.get("score")),
            base=_text(other["output"]) if "output" in other else None,
            base_score=_number(other.get("score")),
            stopped=bool(row.get("stopped", True)),
            probability=_number(row.get("probability")),
        )


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _text(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ", ".join(value)
    return json.dumps(value, ensure_ascii=False)


def _number(value: Any) -> float | None:
    return float(value) if _is_number(value) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value - value == 0
