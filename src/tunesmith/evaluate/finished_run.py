"""A finished run as its judge reads it: the held-out rows, how they are asked, and the rows that it was trained on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.artifact import Manifest, read_manifest
from tunesmith.data.placeholders import as_text
from tunesmith.data.task_file import TaskRecord, read_task
from tunesmith.data.templates import Template
from tunesmith.errors import DataError, ModelError
from tunesmith.evaluate.baselines import Examples
from tunesmith.evaluate.references import right_labels, right_texts, says_none
from tunesmith.run_folder import HELD_OUT

if TYPE_CHECKING:
    from tunesmith.data.sources import Splits

_DATA_OPTIONS = ("data_name", "data_files", "train_subset", "train_split", "eval_subset", "eval_split", "max_samples", "map_columns")


@dataclass(frozen=True)
class FinishedRun:
    """What the folder of a finished fine-tuning says.

    Attributes:
        folder: the run's folder; ``manifest``: what it is.
        template: how prompts become text; None for a model with a head, which reads columns as they are.
        task: what the model does.
        rows: held-out rows to judge by.
    """

    folder: Path
    manifest: Manifest
    template: Template | None
    task: TaskRecord
    rows: tuple[Mapping[str, Any], ...]

    def option(self, name: str, default: Any = None) -> Any:
        """Return the value of an option that the run was given or chose."""
        value = self.manifest.options.get(name, {}).get("value")
        return default if value is None else value


def read_run(folder: Path, *, max_rows: int | None) -> FinishedRun:
    """Return what a run's folder says, with at most ``max_rows`` of its held-out rows.

    Raises:
        ModelError: when it is no finished run.
        DataError: when no rows were held out, or none has an answer.
    """
    manifest = read_manifest(folder)
    if manifest is None or manifest.kind != "finetune":
        raise ModelError(f"{folder} is not the folder of a finished fine-tuning")
    rows = read_rows(folder)
    if not rows:
        raise DataError(
            "no rows were held out of training, so nothing can be said about what it learnt",
            fix="Name some with --eval_split, or let --validation_fraction hold some out",
        )
    weights = folder / "adapter" if (folder / "adapter").is_dir() else folder / "model"
    template = Template.from_dict(manifest.template) if manifest.template else None
    task = read_task(weights) or TaskRecord(manifest.task or "text-generation")
    run = FinishedRun(folder, manifest, template, task, tuple(rows))
    if task.name != "token-classification":  # a text without any span is a right answer too
        rows = [row for row in rows if references_of(run, row) or says_none(task, row.get(task.label_column or ""))]
        if not rows:
            raise DataError("none of the held-out rows has a right answer", file=str(folder / HELD_OUT))
    return replace(run, rows=tuple(spread(rows, max_rows)))


def read_rows(folder: Path) -> list[Mapping[str, Any]]:
    """Return the rows that a run did not train on; none where there is no file of them."""
    file = folder / HELD_OUT
    if not file.is_file():
        return []
    try:
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except ValueError as error:
        raise DataError(f"a line is no JSON: {error}", file=str(file)) from error


def spread(rows: Sequence[Any], most: int | None) -> list[Any]:
    """Return at most so many rows, spread evenly over all."""
    if most is None or len(rows) <= most:
        return list(rows)
    return [rows[index * len(rows) // most] for index in range(most)]


def read_splits(run: FinishedRun) -> Splits:
    """Return the rows of the run's data, read again as its options say.

    Raises:
        UserError: when they can't be read any more.
    """
    from tunesmith.data.sources import load_splits

    return load_splits(**{name: value for name in _DATA_OPTIONS if (value := run.option(name)) is not None})


def training_examples(run: FinishedRun, splits: Splits) -> Examples:
    """Return prompts and answers of the rows that the run was trained on: rows with an answer, without the held-out ones."""
    found = examples(run, splits.train)
    apart = splits.validation is not None or splits.test is not None
    held_out = set() if apart else {prompt_text(run, row) for row in read_rows(run.folder)}
    pairs = zip(found.prompts, found.answers, strict=True)
    kept = [(prompt, answer) for prompt, answer in pairs if answer and prompt not in held_out]
    return Examples(tuple(prompt for prompt, _ in kept), tuple(answer for _, answer in kept))


def examples(run: FinishedRun, rows: Iterable[Mapping[str, Any]]) -> Examples:
    """Return prompts and (first) answers of rows as plain text, as a baseline reads them; no answer is an empty one."""
    pairs = [(prompt_text(run, row), references_of(run, row)) for row in rows]
    return Examples(tuple(prompt for prompt, _ in pairs), tuple(answers[0] if answers else "" for _, answers in pairs))


def prompt_text(run: FinishedRun, row: Mapping[str, Any]) -> str:
    """Return what a row asks, without the template around it."""
    columns = run.task.text_columns or (run.template.prompt_columns if run.template else ())
    if columns:
        return "\n".join(as_text(row.get(column)) for column in columns)
    return json.dumps([value for name, value in row.items() if name != run.task.label_column], ensure_ascii=False, default=str)


def references_of(run: FinishedRun, row: Mapping[str, Any]) -> list[str]:
    """Return the answers that are right for a row."""
    if run.template is not None and run.task.name != "text-classification":
        return right_texts(run.task, run.template, row)
    return right_labels(run.task, row.get(run.task.label_column or ""))
