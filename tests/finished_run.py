"""A finished run's folder, and that of a rating, written by hand: what the report and the diagnosis read, without any training."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from tunesmith.artifact import Manifest, write_manifest
from tunesmith.data.task_file import TaskRecord, write_task
from tunesmith.evaluate.rating.folder import VOTES, Rating, Vote, create_rating
from tunesmith.evaluate.rating.json_log import JsonLog
from tunesmith.evaluate.rating.prompts import RatingPrompt
from tunesmith.evaluate.verdict import decide, write_verdict

LABELS = ("card", "parcel", "refund")


def history(train: Sequence[float], validation: Sequence[float] = (), *, every: int = 10) -> list[dict[str, float]]:
    """Rows of a ``metrics.jsonl``: training losses, and validation losses of which the first is the untouched model's."""
    rows: list[dict[str, float]] = []
    for place, loss in enumerate(validation):
        rows.append({"step": place * every, "eval_loss": loss, "eval_token_accuracy": 0.5, "epoch": place})
    for place, loss in enumerate(train, 1):
        gauges = {"learning_rate": 1e-3 / place, "grad_norm": 1.0, "tokens_per_s": 100.0, "memory_gib": 1.5}
        rows.append({"step": place * every, "loss": loss, "epoch": place, **gauges})
    return rows


def write_run(
    folder: Path,
    *,
    train: Sequence[float] = (2.0, 1.0, 0.5, 0.45, 0.44, 0.44),
    validation: Sequence[float] = (2.0, 1.0, 0.6, 0.5, 0.5),
    options: Mapping[str, Any] | None = None,
    task: str = "text-classification",
    rows: int = 40,
    base_right: int = 10,
    tuned_right: int = 36,
    outcome: bool = True,
    answers: bool = True,
    first_input: str = "where is my <b>card</b> & parcel?",
    **manifest: Any,
) -> Path:
    """Write the folder of a run whose base model and tuned model are right on so many rows, and return it."""
    (folder / "adapter").mkdir(parents=True)
    given = {"data_name": "mail.jsonl", "learning_rate": 1e-3, "num_train_epochs": 3, **(options or {})}
    record = {name: {"value": value, "source": "flag"} for name, value in given.items()}
    record["lora_r"] = record.get("lora_r", {"value": None, "source": "default"})
    figures = {"eval_loss": min(validation)} if validation else {}
    values = {"kind": "finetune", "task": task, "method": "lora", "base": "sample:smollm2-135m", "stop_tokens": ("<|im_end|>",)}
    write_manifest(folder, Manifest(**{**values, "options": record, "metrics": figures, "versions": {"torch": "2.9"}, **manifest}))
    write_task(folder / "adapter", TaskRecord(task, labels=LABELS if task == "text-classification" else ()))
    write_lines(folder / "metrics.jsonl", history(train, validation))
    if answers:
        write_lines(folder / "held_out.jsonl", [{"text": str(number)} for number in range(rows)])
        for name, right in (("predictions_base.jsonl", base_right), ("predictions.jsonl", tuned_right)):
            write_lines(folder / name, [answer(number, number < right, first_input, rows) for number in range(rows)])
    if outcome and answers:
        scores = [[float(number < right) for number in range(rows)] for right in (base_right, tuned_right)]
        verdict = decide("accuracy", *scores, {"majority": [float(number % 3 == 0) for number in range(rows)]})
        write_verdict(folder, replace(verdict, advice=f"tunesmith chat {folder}"))
    return folder


def answer(number: int, right: bool, first_input: str, rows: int) -> dict[str, Any]:
    """A line of a file of predictions."""
    label = LABELS[number % 3]
    return {
        "row": number + 1,
        "input": first_input if number == 0 else f"letter {number}",
        "references": [label],
        "output": label if right else LABELS[(number + 1) % 3],
        "score": float(right),
        "stopped": True,
        "probability": 0.9 if right else 0.6,
    }


def write_lines(file: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write JSON lines."""
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_rating(
    folder: Path, models: Sequence[str], *, scale: Literal["pairs", "1-5"] = "pairs", num_prompts: int = 8, votes: int = 8
) -> Path:
    """Write the folder of a rating in which Ada and Bob prefer the second model on all but every fourth prompt, and return it."""
    prompts = tuple(RatingPrompt(f"prompt {item}: where is my <b>card</b>?") for item in range(1, num_prompts + 1))
    create_rating(
        Rating(folder, scale, tuple(models), 7, prompts, {}), [[f"{model} says {item}" for item in range(num_prompts)] for model in models]
    )
    with JsonLog(folder / VOTES) as log:
        for item in range(1, votes + 1):
            for rater in ("Ada", "Bob"):
                winner = models[0] if item % 4 == 0 else models[1]
                scores = {model: 4 if model == winner else 2 for model in models} if scale == "1-5" else None
                comment = "too <i>long</i>, says nothing" if item == 1 else ""
                shown = tuple(models) if scale == "1-5" else tuple(models[:2])
                log.append(Vote(rater, item, shown, winner, scores, comment, "2026-01-01T00:00:00+00:00").to_dict())
    return folder
