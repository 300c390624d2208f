"""Which rows a run learns, which it is measured on, and in what form their answers are learnt."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.artifact import hash_file
from tunesmith.config.finetune import FinetuneOptions
from tunesmith.data.json_answers import with_json_answers
from tunesmith.data.label_lists import has_label_lists, known_labels, with_label_lists
from tunesmith.data.sources import Splits
from tunesmith.data.splits import MOST_LABELS, hold_out, is_label
from tunesmith.errors import DataError, UsageError

if TYPE_CHECKING:
    from datasets import Dataset

VALIDATION_FRACTION = 0.1


def written_answers(splits: Splits, options: FinetuneOptions, name: str, column: str | None) -> tuple[Splits, tuple[str, ...]]:
    """Return the splits with answers that aren't text written as such, objects and lists of labels as JSON; and the labels of such lists.

    Raises:
        DataError: for answers that aren't in a column, are no JSON, or lists of so many texts that they may be no labels.
    """
    if name == "extraction" and column is None:
        raise DataError("--task extraction needs rows with the answer in a column", fix="Name it last in --text_template.")
    if column is None or name not in ("extraction", "text-classification"):
        return splits, ()
    if name == "extraction":
        return _with_each(splits, column, lambda rows: with_json_answers(rows, column)), ()
    if not has_label_lists(splits.train, column):
        return splits, ()
    labels = known_labels(splits.train[column])
    if options.task is None and len(labels) > MOST_LABELS:
        fix = "If they are labels, say --task text-classification, or score them: --head; if they are not, --task text-generation"
        raise DataError(f"column '{column}' has lists of {len(labels):,} different texts", fix=fix)
    return _with_each(splits, column, lambda rows: with_label_lists(rows, column, labels)), labels


def _with_each(splits: Splits, column: str, change: Callable[[Dataset], Dataset]) -> Splits:
    parts = (splits.train, splits.validation, splits.test)
    train, validation, test = (change(rows) if rows is not None and column in rows.column_names else rows for rows in parts)
    return replace(splits, train=train, validation=validation, test=test)


def split_rows(
    splits: Splits, options: FinetuneOptions, answer: str | None, texts: Sequence[str], *, seed: int
) -> tuple[Dataset, Dataset | None]:
    """Return training and validation rows: the data's own validation rows, or some held out of the training rows.

    Args:
        answer: the column that is learnt; where it is a label, its proportions are kept.
        texts: the columns of the prompt; no prompt is on both sides.
    """
    if splits.validation is not None:
        if options.validation_fraction is not None:
            raise UsageError(
                "--validation_fraction holds rows out, but the data has validation rows of its own",
                fix="Leave it out, or name --train_split alone.",
            )
        return splits.train, splits.validation
    fraction = VALIDATION_FRACTION if options.validation_fraction is None else options.validation_fraction
    if fraction == 0 or len(splits.train) < 2:
        return splits.train, None
    return hold_out(
        splits.train,
        fraction=fraction,
        label_column=answer if answer and is_label(splits.train, answer) else None,
        text_columns=texts or None,
        seed=seed,
    )


def hash_data(splits: Splits, options: FinetuneOptions) -> str:
    """Return a sha256 of the files that were read, or of what identifies data without local files."""
    digest = hashlib.sha256()
    for file in splits.files:
        digest.update(hash_file(Path(file)).encode())
    if not splits.files:
        digest.update(repr((options.data_name, options.train_subset, len(splits.train), splits.train[0])).encode())
    return digest.hexdigest()
