"""The options of ``tunesmith certify``, and those of a proof that exports share with it."""

from __future__ import annotations

from typing import Any

from tunesmith.config.declare import Options, option
from tunesmith.config.model import MODEL

PROOF, TOLERANCES = "Proof", "Tolerances"
#: The options that are tolerances.
TOLERANCE_NAMES = ("merged_logits", "float_top1", "task_drop", "perplexity_rise", "grid_top1")


def proof_rows_option() -> Any:
    return option(
        None,
        "Files of rows with right answers to score on.",
        group=PROOF,
        metavar="FILE",
        default_text="the rows that the run held out, else text of the standard library",
    )


def merged_logits_option(group: str) -> Any:
    return option(1e-3, "Largest difference of a logit after a merge.", group=group, at_least=0)


def float_top1_option(group: str) -> Any:
    words = "Least share of positions with the same likeliest token, exported in floating point."
    return option(0.999, words, group=group, at_least=0, at_most=1)


def grid_top1_option(group: str) -> Any:
    words = "Least share of written tokens that stay the same, of a model trained on its grid."
    return option(0.99, words, group=group, at_least=0, at_most=1)


class ToleranceOptions(Options):
    """What may be lost, and on which rows that is measured."""

    data_files: tuple[str, ...] | None = proof_rows_option()
    limit: int = option(100, "Most rows to score on, spread evenly.", group=PROOF, at_least=1)
    merged_logits: float = merged_logits_option(TOLERANCES)
    float_top1: float = float_top1_option(TOLERANCES)
    task_drop: float = option(0.01, "Part of the task's metric that may be lost.", group=TOLERANCES, at_least=0, at_most=1)
    perplexity_rise: float = option(
        0.03, "Part by which the perplexity of right answers may rise; decides where no metric can.", group=TOLERANCES, at_least=0
    )
    grid_top1: float = grid_top1_option(TOLERANCES)


class CertifyOptions(ToleranceOptions):
    """What ``tunesmith certify`` can be told."""

    exported: str | None = option(None, "The exported folder.", group=MODEL, metavar="FOLDER")
    model_name_or_path: str | None = option(
        None, "What it was exported from: a run, a model folder, a hub id.", group=MODEL, short="m", metavar="MODEL"
    )
    adapter_path: str | None = option(None, "The adapter that was exported with it.", group=MODEL, short="a", metavar="FOLDER")
    revision: str | None = option(None, "Branch, tag or commit of the model on the hub.", group=MODEL)
    token: str | None = option(None, "Hub token for private models.", group=MODEL, secret=True)
    trust_remote_code: bool = option(
        False, "Run Python code that the model's authors put into its repository. Only for authors you trust.", group=MODEL
    )
