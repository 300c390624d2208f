"""The options of ``tunesmith generate``, ``tunesmith chat`` and ``tunesmith merge``."""

from __future__ import annotations

from typing import Any

from tunesmith.config.declare import option
from tunesmith.config.model import MODEL, ModelOptions, SourceOptions, threads_option

PROMPTS, SAMPLING, RESULT = "Prompts", "Sampling", "Result"


def adapter_path_option() -> Any:
    return option(None, "Folder of an adapter to put on the model.", group=MODEL, short="a", metavar="FOLDER")


class SamplingOptions(ModelOptions):
    """How the next token is chosen."""

    adapter_path: str | None = adapter_path_option()
    threads: int | None = threads_option()
    max_new_tokens: int = option(256, "Most tokens of an answer.", group=SAMPLING, at_least=1)
    temperature: float = option(0.0, "0: always the likeliest token; higher: more varied.", group=SAMPLING, at_least=0)
    top_p: float = option(1.0, "Choose among the likeliest tokens that together have this probability.", group=SAMPLING, above=0, at_most=1)
    seed: int | None = option(None, "Makes sampling repeatable.", group=SAMPLING, at_least=0)


class GenerateOptions(SamplingOptions):
    """What ``tunesmith generate`` can be told."""

    prompt: str | None = option(None, "The prompt; - reads it from standard input.", group=PROMPTS, metavar="TEXT")
    data_files: tuple[str, ...] | None = option(
        None, "Files of prompts: JSON, JSON lines, CSV, TSV, Parquet or text. Answers come as JSON lines.", group=PROMPTS, metavar="FILE"
    )
    text_field: str | None = option(
        None,
        "Column that holds the prompt.",
        group=PROMPTS,
        metavar="COLUMN",
        default_text="those of training",
    )
    max_samples: int | None = option(None, "Answer the first N rows only.", group=PROMPTS, at_least=1, default_text="all")
    batch_size: int | None = option(None, "Prompts answered together.", group=SAMPLING, at_least=1, default_text="by length")
    answer_schema: str | None = option(
        None, "A JSON schema that answers must fit.", group=SAMPLING, metavar="FILE", default_text="that of an extraction's training"
    )
    constrain: bool = option(True, "Hold answers to the schema, or the labels, that the model was trained on.", group=SAMPLING)
    output_path: str | None = option(None, "File for the answers.", group=RESULT, short="o", metavar="FILE", default_text="standard output")
    overwrite: bool = option(False, "Replace --output_path when it is there already.", group=RESULT)


class ChatOptions(SamplingOptions):
    """What ``tunesmith chat`` can be told."""

    system_prompt: str | None = option(None, "How the model should behave.", group="Conversation", metavar="TEXT")


class MergeOptions(SourceOptions):
    """What ``tunesmith merge`` can be told."""

    adapter_path: str | None = adapter_path_option()
    output_path: str | None = option(None, "Folder for the merged model.", group=RESULT, short="o", metavar="FOLDER")
    overwrite: bool = option(False, "Replace --output_path when it is there already.", group=RESULT)
