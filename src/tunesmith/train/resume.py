"""Whether a stopped run and the command that wants to go on with it are the same run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tunesmith.config.finetune import FinetuneOptions
from tunesmith.config.resolve import Resolved
from tunesmith.errors import ResumeError

# What may differ: it changes neither the steps that were taken nor those to come.
FREE = frozenset(
    {
        "overwrite",
        "resume",
        "output_path",
        "show_examples",
        "show_answers",
        "logging_dir",
        "task_name",
        "report_to",
        "auto_batch",
        "verdict",
        "verdict_rows",
    }
)


def run_record(resolved: Resolved[FinetuneOptions], data_hash: str) -> dict[str, Any]:
    """Return what makes a run this run: its options (without secrets) and its data."""
    options = {name: entry["value"] for name, entry in resolved.record().items()}
    given = {name: options[name] for name in resolved.explicit if name in options}
    # through JSON and back, so that what is compared later has the types that a file gives
    record: dict[str, Any] = json.loads(json.dumps({"options": options, "given": given, "data_hash": data_hash}, default=str))
    return record


def check_same_run(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Compare two records.

    Raises:
        ResumeError: with every difference that matters.
    """
    old, new = before.get("options", {}), now["options"]
    differences = [
        f"{name} was {_spell(old.get(name))}, is now {_spell(new.get(name))}"
        for name in sorted({*old, *new} - FREE)
        if old.get(name) != new.get(name)
    ]
    if before.get("data_hash") != now["data_hash"]:
        differences.append("the data has changed")
    if differences:
        raise ResumeError(
            f"the stopped run was another one: {'; '.join(differences)}",
            fix="Give the options it was started with (--resume and --output_path alone repeat them), or start afresh with --overwrite.",
        )


def _spell(value: Any) -> str:
    return "not given" if value is None else str(value)
