"""``held_out.jsonl``: rows that a run did not train on, kept beside its weights, so that whoever judges it uses the same ones."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.artifact import write_file_atomically
from tunesmith.data.provenance import data_columns
from tunesmith.data.sources import Splits
from tunesmith.run_folder import HELD_OUT

if TYPE_CHECKING:
    from datasets import Dataset

MOST_ROWS = 2000
# Rows of a test split that are looked at for an answer: public test sets often come without any.
LOOKED_AT = 50


def held_out_rows(splits: Splits, validation: Dataset | None, answers: Callable[[dict[str, Any]], Sequence[str]]) -> Dataset | None:
    """Return the data's test rows when it has some with answers, else the validation rows; at most 2,000, spread evenly.

    Args:
        answers: what a row says is right.
    """
    test = splits.test
    answered = test is not None and any(answers(test[index]) for index in range(min(LOOKED_AT, len(test))))
    rows = test if answered else validation
    if rows is None or len(rows) <= MOST_ROWS:
        return rows
    return rows.select([index * len(rows) // MOST_ROWS for index in range(MOST_ROWS)])


def write_held_out(folder: Path, rows: Dataset | None) -> None:
    """Write the rows into ``folder``, one JSON object a line with the columns of the data; no rows, no file."""
    if rows is None:
        return
    lines = [json.dumps(row, ensure_ascii=False, default=str) for row in rows.select_columns(data_columns(rows))]
    write_file_atomically(folder / HELD_OUT, "\n".join(lines) + "\n")
