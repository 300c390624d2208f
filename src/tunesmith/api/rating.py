"""Answers compared by people."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tunesmith.api.answering import load

if TYPE_CHECKING:
    from tunesmith.evaluate.rating.summary import RatingSummary


def rate(
    output_path: str | Path = "ratings",
    *,
    data_files: Sequence[str] | None = None,
    models: Sequence[str] | None = None,
    answers: Sequence[str] | None = None,
    text_field: str | None = None,
    max_samples: int | None = None,
    scale: Literal["pairs", "1-5"] | None = None,
    max_new_tokens: int | None = None,
    temperature: float | None = None,
    top_p: float | None = None,
    seed: int | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    ready: Callable[[str], None] = print,
    **loading: Any,
) -> RatingSummary | None:
    """Let models answer prompts, and people compare the answers, blind, on a local page, until Ctrl-C; goes on with what is there.

    Args:
        output_path: folder of the rating.
        data_files, text_field, max_samples: the prompts.
        models: at least two, as :func:`load` takes them.
        answers: in place of prompts and models a file of answers for each model, as ``evaluate`` or ``generate`` writes it.
        scale: ``pairs`` (default) or ``1-5``.
        max_new_tokens, temperature, top_p: of the answers, as :meth:`Runtime.generate` takes them.
        seed: of sampling, and of the order in which answers are shown.
        host, port: where to listen; this machine alone, at any free port, by default.
        ready: called with the page's link.
        **loading: passed to :func:`load` for each model.

    Returns: the result so far; None when nobody has voted.
    Raises:
        UserError: for whatever the caller can mend.
    """
    from tunesmith.evaluate.rating.rate import prepare, serve

    sampling = {"max_new_tokens": max_new_tokens, "temperature": temperature, "top_p": top_p}
    prepare(
        Path(output_path).expanduser(),
        data_files=data_files,
        models=models,
        answers=answers,
        scale=scale,
        text_field=text_field,
        max_samples=max_samples,
        seed=seed,
        sampling=sampling,
    )
    return serve(Path(output_path).expanduser(), lambda model: load(model, **loading), host=host, port=port, ready=ready)


def rating_summary(output_path: str | Path = "ratings") -> tuple[RatingSummary, Path]:
    """Return the result of a rating so far, and the file ``export.jsonl`` that everything is written to.

    Raises:
        UserError: when there is no rating in the folder, or nobody has voted.
    """
    from tunesmith.evaluate.rating.rate import summary_and_export

    return summary_and_export(Path(output_path).expanduser())
