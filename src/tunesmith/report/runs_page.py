"""Several runs on one page: their verdicts, their curves in one picture, the settings that differ, the rows that all of them answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tunesmith.artifact import write_file_atomically
from tunesmith.evaluate.verdict import difference_words, interval_words, metric_words, score_words
from tunesmith.report import answers
from tunesmith.report.charts import Chart, line_chart
from tunesmith.report.page import checked_path, render
from tunesmith.report.people import PeopleSaid, read_people
from tunesmith.report.run_files import RunFiles, read_run_files, run_name
from tunesmith.run_folder import REPORT

_CURVES = (("Validation loss", "eval_loss"), ("Training loss", "loss"), ("Learning rate", "learning_rate"), ("Throughput", "tokens_per_s"))
_ROWS = 8


def write_comparison(folders: Sequence[Path], path: Path | None = None, *, ratings: Sequence[Path] = (), overwrite: bool = False) -> Path:
    """Write one page about several finished runs, and return its path.

    Args:
        folders: of the runs.
        path: of the page; ``report.html`` in the working folder by default.
        ratings: folders of human ratings that belong onto the page.
        overwrite: replace ``path`` when it is there.

    Raises:
        ModelError: when one of them is not the folder of a finished run.
        DataError: when there is no rating with votes in one of ``ratings``.
        OutputError: when the page can't be written.
    """
    page = runs_page([read_run_files(folder) for folder in folders], read_people(ratings, []))
    path = checked_path(path or Path(REPORT), overwrite=overwrite)
    write_file_atomically(path, page)
    return path


def runs_page(runs: Sequence[RunFiles], people: Sequence[PeopleSaid] = ()) -> str:
    """Return the page of several runs; ``people``: what ratings of their answers say."""
    named = dict(zip(names_of([run.folder for run in runs]), runs, strict=True))
    return render(
        "runs.html",
        title=f"{len(runs)} runs compared",
        what=", ".join(named),
        names=list(named),
        table=[verdict_row(name, run) for name, run in named.items()],
        warnings=warnings(runs),
        people=people,
        charts=charts(named),
        settings=differing_settings(runs),
        rows=common_rows(named),
    )


def names_of(folders: Sequence[Path]) -> list[str]:
    """Return the folders' names, with as much of their path as tells them apart."""
    names = [run_name(folder) for folder in folders]
    return names if len(set(names)) == len(names) else [str(folder) for folder in folders]


def verdict_row(name: str, run: RunFiles) -> dict[str, str]:
    """Return a line of the table of verdicts."""
    loss = run.manifest.metrics.get("eval_loss")
    row = {
        "name": name,
        "method": run.manifest.method or "",
        "loss": f"{loss:.4f}" if isinstance(loss, (int, float)) else "",
        **dict.fromkeys(("metric", "base", "tuned", "difference", "rows"), ""),
        "outcome": "no verdict",
    }
    found = run.verdict
    if found is None:
        return row
    row |= {"outcome": found.outcome, "metric": metric_words(found.metric), "rows": f"{found.num_rows:,}"}
    row |= {"tuned": score_words(found.metric, found.tuned)}
    if found.base is not None:
        row["base"] = score_words(found.metric, found.base)
    if found.difference is not None and found.interval is not None:
        row["difference"] = f"{difference_words(found.metric, found.difference)} ({interval_words(found.metric, *found.interval)})"
    return row


def warnings(runs: Sequence[RunFiles]) -> list[str]:
    """Return why the figures of these runs may not be comparable."""
    found = []
    metrics = {run.verdict.metric for run in runs if run.verdict}
    if len(metrics) > 1:
        found.append(f"Different metrics ({', '.join(sorted(metrics))}): their scores can't be compared.")
    asked = [tuple(row.input for row in run.answered) for run in runs if run.answered]
    if len(set(asked)) > 1:
        found.append("Not all runs were judged by the same rows; tunesmith compare A B --data_files FILE does that.")
    return found


def charts(runs: Mapping[str, RunFiles]) -> list[Chart]:
    """Return curves of all runs in one picture each."""
    found = []
    for title, series in _CURVES:
        lines = {name: points for name, run in runs.items() if len(points := run.series(series)) > 1}
        if lines:
            found.append(line_chart(title, lines))
    return found


def differing_settings(runs: Sequence[RunFiles]) -> list[tuple[str, list[str]]]:
    """Return the settings that are not the same in all runs, with each run's value."""
    values = [{name: value for name, value, _ in answers.settings(run)} for run in runs]
    names = sorted({name for found in values for name in found})
    rows = [(name, [found.get(name, "") for found in values]) for name in names if name not in ("output_path", "overwrite", "resume")]
    return [(name, row) for name, row in rows if len(set(row)) > 1]


def common_rows(runs: Mapping[str, RunFiles]) -> list[dict[str, Any]]:
    """Return rows that all runs answered, those first on which their scores differ most."""
    by_input = [{row.input: row for row in run.answered} for run in runs.values()]
    shared = [text for text in (by_input[0] if by_input else {}) if all(text in found for found in by_input)]

    def spread(text: str) -> float:
        scores = [score for found in by_input if (score := found[text].tuned_score) is not None]
        return max(scores) - min(scores) if len(scores) > 1 else 0.0

    rows = []
    for number, text in enumerate(sorted(shared, key=spread, reverse=True)[:_ROWS], 1):
        given = [(name, found[text].tuned, found[text].tuned_score) for name, found in zip(runs, by_input, strict=True)]
        rows.append({"number": number, "input": text, "reference": "\n".join(by_input[0][text].references), "answers": given})
    return rows
