"""The options of ``tunesmith data check``, ``clean``, ``split``, ``convert``, ``preview`` and ``augment``."""

from __future__ import annotations

from typing import Any, Literal

from tunesmith.config.declare import Options, option
from tunesmith.config.model import MODEL
from tunesmith.errors import ConfigError

DATA, SPLIT, VARIATIONS, RESULT = "Data", "Split", "Variations", "Result"


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
    token: str | None = option(None, "Hub token for private models and data.", group=MODEL, secret=True)
    trust_remote_code: bool = option(False, "Run Python code that the model's authors put into its repository.", group=MODEL)
    max_seq_len: int | None = option(
        None, "Most tokens of a row.", group=MODEL, at_least=2, default_text="follows the data, as in training"
    )


class CheckOptions(ModelOfData, RowOptions):
    """What ``tunesmith data check`` can be told."""

    data_files: tuple[str, ...] | None = _data_files("Training rows: files, one folder with its splits, a hub id, or sample:NAME.")
    test_files: tuple[str, ...] | None = option(
        None, "Validation and test rows, to find what training would give away: files or a hub id.", group=DATA, metavar="FILE"
    )
    checks: tuple[str, ...] | None = option(None, "Do these checks only.", group=DATA, default_text="all")
    phone_region: str = option(
        "US", "Country whose way of writing phone numbers counts beside the international one; none for none.", group=DATA, metavar="CODE"
    )
    strict: bool = option(False, "Warnings count as errors for the exit status.", group=RESULT)


class OutputOptions(Options):
    """Where rows go."""

    output_path: str | None = option(
        None, "File for the rows: .jsonl, .json, .csv, .tsv or .parquet.", group=RESULT, short="o", metavar="FILE"
    )
    overwrite: bool = option(False, "Replace what is there already.", group=RESULT)


class CleanOptions(OutputOptions, RowOptions):
    """What ``tunesmith data clean`` can be told."""

    data_files: tuple[str, ...] | None = _data_files("Training rows: files, a hub id, or sample:NAME.")
    test_files: tuple[str, ...] | None = option(
        None, "Rows to measure on: training rows that ask the same are taken out.", group=DATA, metavar="FILE"
    )
    conflicts: Literal["majority", "drop", "keep"] = option(
        "majority", "Different labels for one text: keep those of most rows, drop all, or keep all.", group=RESULT
    )


class SplitOptions(Options):
    """What ``tunesmith data split`` can be told."""

    data_files: tuple[str, ...] | None = _data_files("All rows: files, a hub id (its training rows), or sample:NAME.")
    text_template: str | None = option(
        None, "How a row becomes text, with {column} placeholders.", group=DATA, default_text="by the columns"
    )
    map_columns: dict[str, str] | None = _map_columns()
    validation_fraction: float = option(0.1, "Share of the rows for validation; 0 for none.", group=SPLIT, at_least=0, below=1)
    test_fraction: float = option(0.1, "Share of the rows for the test; 0 for none.", group=SPLIT, at_least=0, below=1)
    group_by: str | None = option(
        None, "Rows with one value of this column stay together (a user, a document).", group=SPLIT, metavar="COLUMN"
    )
    time_by: str | None = option(
        None, "Divide by this column of numbers or ISO dates: the latest rows are the test rows.", group=SPLIT, metavar="COLUMN"
    )
    stratify_by: str | None = option(None, "Column spread alike over all files.", group=SPLIT, metavar="COLUMN", default_text="the label")
    seed: int = option(0, "Decides which rows go where.", group=SPLIT, at_least=0)
    output_path: str | None = option(None, "Folder for train, validation and test files.", group=RESULT, short="o", metavar="FOLDER")
    file_type: Literal["jsonl", "json", "csv", "tsv", "parquet"] = option("jsonl", "Kind of the files.", group=RESULT)
    overwrite: bool = option(False, "Replace files that are there already.", group=RESULT)


class ConvertOptions(OutputOptions):
    """What ``tunesmith data convert`` can be told."""

    data_files: tuple[str, ...] | None = _data_files("Rows of a known format; of any format for another kind of file.")
    map_columns: dict[str, str] | None = _map_columns()
    to: Literal["same", "messages", "sharegpt", "alpaca", "prompt-completion", "text-label", "text"] = option(
        "same", "Format of the rows.", group=RESULT
    )


class PreviewOptions(RowOptions, ModelOfData):
    """What ``tunesmith data preview`` can be told."""

    model_name_or_path: str | None = option(
        None,
        "Model whose tokenizer and chat template are used.",
        group=MODEL,
        short="m",
        metavar="MODEL",
        default_text="sample:smollm2-135m",
    )
    data_files: tuple[str, ...] | None = _data_files("Rows, as finetune takes them.")
    num_rows: int = option(3, "Rows to show.", group=RESULT, short="n", at_least=1)
    use_chat_template: bool | None = option(None, "With the chat template, or without.", group=DATA, default_text="when the model has one")
    chat_template: str | None = option(None, "Chat template by name, file, or as Jinja.", group=DATA)
    train_on_prompt: bool = option(False, "Learn the prompt too.", group=DATA)


class AugmentOptions(OutputOptions):
    """What ``tunesmith data augment`` can be told."""

    data_files: tuple[str, ...] | None = _data_files("Training rows; validation and test files are refused.")
    test_files: tuple[str, ...] | None = option(
        None, "Rows to measure on, whose texts no variation may become.", group=DATA, metavar="FILE"
    )
    map_columns: dict[str, str] | None = _map_columns()
    kinds: tuple[str, ...] | None = option(
        None, "casing, typos, punctuation, word_dropping, synonyms, paraphrase.", group=VARIATIONS, default_text="all that are possible"
    )
    num_copies: int = option(1, "Variations of each row.", group=VARIATIONS, at_least=1)
    synonyms_file: str | None = option(
        None, 'Words and what may stand for them: JSON {"word": ["other", …]}, or CSV with two columns.', group=VARIATIONS, metavar="FILE"
    )
    paraphrase_model: str | None = option(
        None, "A model on this machine that says prompts in other words.", group=VARIATIONS, metavar="MODEL"
    )
    seed: int = option(0, "The same seed makes the same rows.", group=VARIATIONS, at_least=0)


def needed(command: str, *given: Any, example: str) -> Any:
    """Return what a command can't do without: its files, then its output.

    Raises:
        ConfigError: naming all that is missing.
    """
    missing = [text for value, text in zip(given, ("no data is named", "--output_path is needed"), strict=False) if not value]
    if missing:
        raise ConfigError(missing, fix=f"For example: tunesmith {command} {example}")
    return given
