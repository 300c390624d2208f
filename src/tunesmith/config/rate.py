"""The options of ``tunesmith rate``."""

from __future__ import annotations

from typing import Literal

from tunesmith.config.declare import Options, option
from tunesmith.config.generate import PROMPTS, RESULT, SAMPLING
from tunesmith.config.model import MODEL

PAGE = "Page"


class RateOptions(Options):
    """What ``tunesmith rate`` can be told."""

    data_files: tuple[str, ...] | None = option(
        None,
        "Files of prompts: JSON, JSON lines, CSV, TSV, Parquet or text. Answers in them become references.",
        group=PROMPTS,
        metavar="FILE",
    )
    models: tuple[str, ...] | None = option(
        None,
        "Two or more models that answer: folders, runs, hub ids, sample:NAME. Raters don't see the names.",
        group=PROMPTS,
        metavar="MODEL",
    )
    answers: tuple[str, ...] | None = option(
        None,
        "Instead of prompts and models: a file of answers for each model, as tunesmith evaluate or generate writes it.",
        group=PROMPTS,
        metavar="FILE",
    )
    text_field: str | None = option(
        None, "Column that holds the prompt.", group=PROMPTS, metavar="COLUMN", default_text="by the row format"
    )
    max_samples: int | None = option(
        None, "Rate this many prompts only, chosen at random, always the same.", group=PROMPTS, at_least=1, default_text="all"
    )
    scale: Literal["pairs", "1-5"] | None = option(
        None, "pairs: which of two answers is better, or a tie; 1-5: a score for each answer.", group=PROMPTS, default_text="pairs"
    )
    # None: what the folder says, or a runtime's own default for a new one
    max_new_tokens: int | None = option(None, "Most tokens of an answer.", group=SAMPLING, at_least=1, default_text="256")
    temperature: float | None = option(
        None, "0: always the likeliest token; higher: more varied.", group=SAMPLING, at_least=0, default_text="0"
    )
    top_p: float | None = option(
        None, "Choose among the likeliest tokens that together have this probability.", group=SAMPLING, above=0, at_most=1, default_text="1"
    )
    seed: int | None = option(None, "Makes sampling, and the order in which answers are shown, repeatable.", group=SAMPLING, at_least=0)
    torch_dtype: Literal["auto", "bfloat16", "float16", "float32"] = option("auto", "Number format of the weights.", group=MODEL)
    device: Literal["auto", "cpu", "cuda", "mps"] = option("auto", "Where to compute; auto: a GPU when there is one.", group=MODEL)
    trust_remote_code: bool = option(
        False, "Run Python code that the models' authors put into their repositories. Only for authors you trust.", group=MODEL
    )
    token: str | None = option(None, "Hub token for private models.", group=MODEL, secret=True)
    host: str = option("127.0.0.1", "Address to listen at; the default is reached from this machine alone.", group=PAGE, metavar="ADDRESS")
    port: int = option(0, "Port to listen at.", group=PAGE, at_least=0, at_most=65535, default_text="any that is free")
    output_path: str = option(
        "ratings", "Folder of the rating; one that is there is gone on with.", group=RESULT, short="o", metavar="FOLDER"
    )
    summary: bool = option(False, "Print the result so far and write FOLDER/export.jsonl, without serving the page.", group=RESULT)
