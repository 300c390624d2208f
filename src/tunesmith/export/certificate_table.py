"""The certificate for people: columns of its table, and the verdict in sentences."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tunesmith.evaluate.verdict import metric_words, score_words

if TYPE_CHECKING:
    from tunesmith.export.certificate import Certificate
    from tunesmith.export.stages import StageScores

_NONE = "–"


def columns_of(certificate: Certificate) -> list[tuple[str, list[str]]]:
    """Return (heading, one cell a stage) of every column that has a figure; the names of the stages come first."""
    metrics = list(dict.fromkeys(name for stage in certificate.stages for name in list(stage.metrics)[:1]))
    columns: list[tuple[str, Callable[[StageScores], str | None]]] = [
        ("stage", lambda stage: stage.name),
        ("MB", lambda stage: None if stage.size_mb is None else f"{stage.size_mb:,.1f}"),
        *((metric_words(name), _metric(name)) for name in metrics),
        ("perplexity", lambda stage: _number(stage.perplexity)),
        (f"same {certificate.stages[-1].compared}" if certificate.stages else "", lambda stage: _share(stage.top1_agreement)),
        ("max dist.", lambda stage: _number(stage.max_logit_distance, 2)),
        ("mean dist.", lambda stage: _number(stage.mean_logit_distance, 2)),
        ("KL", lambda stage: _number(stage.kl, 2)),
        ("same answers", lambda stage: _share(stage.greedy_equal)),
        ("stop", lambda stage: _share(stage.stopped)),
    ]
    found = []
    for name, cell in columns:
        cells = [cell(stage) for stage in certificate.stages]
        if any(value is not None for value in cells):
            found.append((name, [_NONE if value is None else value for value in cells]))
    return found


def table_text(columns: list[tuple[str, list[str]]]) -> str:
    """Return columns as a table of plain text: names to the left, figures to the right."""
    import io

    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for place, (name, _) in enumerate(columns):
        table.add_column(name, justify="right" if place else "left", no_wrap=True)
    for cells in zip(*(cells for _, cells in columns), strict=True):
        table.add_row(*cells)
    out = io.StringIO()
    # wide enough for every column: a figure cut off is none
    Console(file=out, width=400, highlight=False, markup=False, emoji=False, color_system=None).print(table)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines() if line.strip())


def verdict_lines(certificate: Certificate) -> list[str]:
    """Return the verdict in sentences."""
    lines = [f"Scored on {certificate.rows}; every stage is compared with '{certificate.reference}'."] if certificate.rows else []
    lines += certificate.words
    if certificate.passed:
        return [*lines, "Nothing was lost beyond the tolerances."]
    lines += [f"Lost: {failure}." for failure in certificate.failures]
    lines += [f"Where: {stage}: {words}." for stage, words in certificate.layers.items()]
    if certificate.accepted:
        lines.append("The loss was accepted by --accept_loss.")
    return lines


def _metric(name: str) -> Callable[[StageScores], str | None]:
    return lambda stage: score_words(name, stage.metrics[name]) if name in stage.metrics else None


def _number(value: float | None, digits: int = 4) -> str | None:
    return None if value is None else f"{value:.{digits}g}"


def _share(value: float | None) -> str | None:
    return None if value is None else f"{value:.2%}"
