"""The options of ``tunesmith compare``, ``tunesmith report`` and ``tunesmith diagnose``."""

from __future__ import annotations

from typing import Literal

from tunesmith.config.declare import Options, option
from tunesmith.config.model import MODEL

DATA, RUN, RESULT = "Data", "Run", "Result"


class CompareOptions(Options):
    """What ``tunesmith compare`` can be told."""

    models: tuple[str, ...] | None = option(
        None, "The two models: folders of runs, models, hub ids. The second is judged by the first.", group=MODEL, metavar="MODEL"
    )
    data_files: tuple[str, ...] | None = option(
        None, "Files of rows with prompts and right answers, best ones that neither model was trained on.", group=DATA, metavar="FILE"
    )
    max_samples: int | None = option(None, "Ask at most N rows, spread evenly over all.", group=DATA, at_least=1, default_text="all")
    map_columns: dict[str, str] | None = option(None, "Rename columns first: OLD=NEW.", group=DATA, metavar="OLD=NEW")
    metric: str | None = option(
        None, "What decides; it has to mean something for a single row.", group=RESULT, default_text="that of the task"
    )
    max_new_tokens: int | None = option(
        None, "Most tokens of an answer.", group=RESULT, at_least=1, default_text="half as many again as the longest reference"
    )
    seed: int = option(0, "Of the bootstrap.", group=RESULT, at_least=0)
    torch_dtype: Literal["auto", "bfloat16", "float16", "float32"] = option("auto", "Number format of the weights.", group=MODEL)
    device: Literal["auto", "cpu", "cuda", "mps"] = option("auto", "Where to compute; auto: a GPU when there is one.", group=MODEL)
    trust_remote_code: bool = option(
        False, "Run Python code that the model's authors put into its repository. Only for authors you trust.", group=MODEL
    )


class ReportOptions(Options):
    """What ``tunesmith report`` can be told."""

    runs: tuple[str, ...] | None = option(None, "Folders of finished runs; several are compared on one page.", group=RUN, metavar="RUN")
    ratings: tuple[str, ...] | None = option(
        None, "Folders that tunesmith rate filled; what people said stands on the page then.", group=RUN, metavar="FOLDER"
    )
    output_path: str | None = option(
        None,
        "File of the page.",
        group=RESULT,
        short="o",
        metavar="FILE",
        default_text="report.html in the run's folder; of several runs, in this folder",
    )
    overwrite: bool = option(False, "Replace --output_path when it is there already.", group=RESULT)


class DiagnoseOptions(Options):
    """What ``tunesmith diagnose`` can be told."""

    run: str | None = option(None, "Folder of a finished run.", group=RUN, metavar="RUN")
