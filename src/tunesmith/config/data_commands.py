"""The options of ``tunesmith data check``, ``clean``, ``split``, ``convert``, ``preview`` and ``augment``."""

from __future__ import annotations

from typing import Any

from tunesmith.config.declare import Options, option
from tunesmith.config.model import MODEL

DATA, RESULT = "Data", "Result"


def _data_files(what: str) -> Any:
    return option(None, what, group=DATA, short="d", metavar="FILE")


def _map_columns() -> Any:
    return option(None, "Rename columns: old=new.", group=DATA, metavar="OLD=NEW")


class RowOptions(Options):
    """How rows become text."""

    text_template: str | None = option(
        None,
        "How a row becomes text, with {column} placeholders, the last of which is the answer.",
        group=DATA,
        default_text="by the columns",
    )
    text_field: str | None = option(None, "The one column that is learnt as plain text.", group=DATA, metavar="COLUMN")
    map_columns: dict[str, str] | None = _map_columns()


class ModelOfData(Options):
    """The model that is to be trained on the data."""

    model_name_or_path: str | None = option(
        None, "Model that is to be trained: its tokens are counted, its special tokens looked for.", group=MODEL, short="m", metavar="MODEL"
    )
    revision: str | None = option(None, "Branch, tag or commit of the model on the hub.", group=MODEL)
    token: str | None = option(None, "Hub token for private models.", group=MODEL, secret=True)
    trust_remote_code: bool = option(False, "Run Python code that the model's authors put into its repository.", group=MODEL)
    max_seq_len: int | None = option(
        None, "Most tokens of a row.", group=MODEL, at_least=2, default_text="follows the data, as in training"
    )


class CheckOptions(ModelOfData, RowOptions):
    """What ``tunesmith data check`` can be told."""

    data_files: tuple[str, ...] | None = _data_files("Training rows: files, or one folder with its splits.")
    test_files: tuple[str, ...] | None = option(
        None, "Validation and test rows, to find what training would give away.", group=DATA, metavar="FILE"
    )
    checks: tuple[str, ...] | None = option(None, "Do these checks only.", group=DATA, default_text="all")
    phone_region: str = option(
        "US", "Country whose way of writing phone numbers counts beside the international one; none for none.", group=DATA, metavar="CODE"
    )
    strict: bool = option(False, "Warnings count as errors for the exit status.", group=RESULT)
