"""``report.html``: one page that tells a run, opens without a network, and reads well on a phone, in the dark and to a screen reader.

The page has no script and fetches nothing; a content security policy in it says so to the browser. Texts of models and data are escaped.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tunesmith import __version__
from tunesmith.artifact import write_file_atomically
from tunesmith.errors import OutputError
from tunesmith.evaluate.baselines import WORDS as BASELINE_WORDS
from tunesmith.evaluate.verdict import Verdict, difference_words, interval_words, metric_words, score_words
from tunesmith.report import answers
from tunesmith.report.charts import Chart, calibration_chart, run_charts
from tunesmith.report.people import PeopleSaid, read_people
from tunesmith.report.run_files import RunFiles, read_run_files, run_name, short_name
from tunesmith.run_folder import REPORT

_PAGES = Path(__file__).parent / "pages"
_MADE_WITH = ("torch", "transformers", "peft")


def write_report(folder: Path, path: Path | None = None, *, ratings: Sequence[Path] = (), overwrite: bool = False) -> Path:
    """Write the page of a finished run, and return its path.

    Args:
        folder: of the run.
        path: of the page; ``report.html`` in the run's folder by default, where an older one is replaced.
        ratings: folders of human ratings that belong onto the page.
        overwrite: replace ``path`` when it is there.

    Raises:
        ModelError: when it is not the folder of a finished run.
        DataError: when there is no rating with votes in one of ``ratings``.
        OutputError: when it can't be written.
    """
    page = run_page(read_run_files(folder), read_people(ratings, [folder]))
    path = folder / REPORT if path is None else checked_path(path, overwrite=overwrite)
    write_file_atomically(path, page)
    return path


def checked_path(path: Path, *, overwrite: bool) -> Path:
    """Return where a page can be written: the file named, or ``report.html`` in the folder named.

    Raises:
        OutputError: when something is there already, or its folder is not.
    """
    path = path / REPORT if path.is_dir() else path
    if path.exists() and not overwrite:
        raise OutputError(f"{path} is there already", fix="Choose another --output_path, or replace it with --overwrite")
    if not path.parent.is_dir():
        raise OutputError(f"the folder {path.parent} for the page does not exist", fix="Make it, or choose another --output_path")
    return path


def run_page(run: RunFiles, people: Sequence[PeopleSaid] = ()) -> str:
    """Return the page of one run; ``people``: what ratings of its answers say."""
    title = f"{run_name(run.folder)}: {short_name(run.manifest.base)}, {run.manifest.method}"
    charts = run_charts(run)
    found = answers.confusion(run.answered) if run.task.name == "text-classification" else None
    fields = answers.fields(run.answered) if run.task.name in ("extraction", "text-generation") else []
    calibration = _calibration(run)
    samples = answers.samples(run.answered)
    sections = [
        ("verdict", "Verdict", True),
        ("people", "Rated by people", people),
        ("curves", "Curves", charts),
        ("where", "Right and wrong", found or fields or calibration),
        ("samples", "Answers", samples),
        ("data", "Data", True),
        ("settings", "Settings", True),
        ("use", "How to use it", True),
    ]
    return render(
        "run.html",
        title=title,
        run=run,
        what=what_was_done(run),
        parts_shown=[(anchor, name) for anchor, name, shown in sections if shown],
        metric=metric_words(run.verdict.metric) if run.verdict else "",
        bars=score_bars(run.verdict) if run.verdict else [],
        others=other_figures(run.verdict) if run.verdict else [],
        people=people,
        charts=charts,
        confusion=found,
        fields=fields,
        calibration=calibration,
        samples=samples,
        improved=answers.most_improved(run.answered),
        worst=answers.worst(run.answered),
        data=answers.data_summary(run),
        labels=answers.label_shares(run.answered),
        settings=answers.settings(run),
        usage=usage(run),
        made_with=", ".join(f"{name} {run.manifest.versions[name]}" for name in _MADE_WITH if name in run.manifest.versions),
    )


def render(page: str, **values: Any) -> str:
    """Fill one of the pages; every value is escaped except the pictures made here."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(_PAGES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    style = Markup((_PAGES / "style.css").read_text(encoding="utf-8"))
    return environment.get_template(page).render(version=__version__, style=style, **{"made_with": "", **values})


def what_was_done(run: RunFiles) -> str:
    """Return the run in one paragraph."""
    manifest = run.manifest
    data = ", ".join(short_name(str(name)) for option in ("data_name", "data_files") for name in _listed(run.option(option))) or "examples"
    parts = [f"{short_name(manifest.base)} was fine-tuned for {run.task.name} on {data} with {manifest.method}"]
    if run.task.head:
        parts[0] += ", with a head of its own"
    steps = max((int(row["step"]) for row in run.history if "step" in row), default=0)
    if steps:
        epochs = max((row["epoch"] for row in run.history if isinstance(row.get("epoch"), (int, float))), default=0)
        parts.append(f"{steps:,} steps" + (f" ({epochs:.3g} times through the data)" if epochs else ""))
    rate = run.option("learning_rate")
    if rate is not None:
        parts.append(f"learning rate {rate:g}" if isinstance(rate, (int, float)) else f"learning rate {rate}")
    if memory := [value for _, value in run.series("memory_gib")]:
        parts.append(f"at most {max(memory):.1f} GiB of memory while training")
    return "; ".join(parts) + "."


def score_bars(verdict: Verdict) -> list[tuple[str, str, float, str]]:
    """Return (name, score, length 0 to 1, difference of the tuned model to it) of both models and the baselines."""
    rows: list[tuple[str, float, str]] = []
    if verdict.base is not None:
        rows.append(("base model", verdict.base, _against(verdict.metric, verdict.difference, verdict.interval)))
    rows.append(("tuned model", verdict.tuned, ""))
    for name, score in verdict.baselines.items():
        mean, low, high = verdict.against.get(name, (None, None, None))
        interval = (low, high) if low is not None and high is not None else None
        rows.append((BASELINE_WORDS.get(name, name), score, _against(verdict.metric, mean, interval)))
    scores = [score for _, score, _ in rows]
    if min(scores) < 0:
        return [(name, score_words(verdict.metric, score), 0.0, against) for name, score, against in rows]
    most = max(1.0, *scores)
    return [(name, score_words(verdict.metric, score), score / most, against) for name, score, against in rows]


def _against(metric: str, mean: float | None, interval: tuple[float, float] | None) -> str:
    if mean is None or interval is None:
        return ""
    return f"tuned {difference_words(metric, mean)} ({interval_words(metric, *interval)})"


def other_figures(verdict: Verdict) -> list[tuple[str, str, str]]:
    """Return further figures of both models: name, base, tuned."""
    shown = {name: pair for name, pair in verdict.others.items() if name != verdict.metric}
    return [(metric_words(name), f"{before:.4g}", f"{after:.4g}") for name, (before, after) in shown.items() if None not in (before, after)]


def _calibration(run: RunFiles) -> Chart | None:
    if run.task.multi_label:
        return None
    sure, right = answers.decisions(run.answered)
    return calibration_chart(sure, right) if sure else None


def usage(run: RunFiles) -> list[tuple[str, str]]:
    """Return (words, code) for everything that can be done with the result."""
    folder = shlex.quote(str(run.folder))
    found = [
        ("Ask it:", f'tunesmith generate -m {folder} "…"'),
        ("Let it answer a file of prompts:", f"tunesmith generate -m {folder} --data_files prompts.jsonl -o answers.jsonl"),
        ("In Python:", f'import tunesmith\n\nmodel = tunesmith.load({str(run.folder)!r})\nprint(model.generate(["…"])[0].text)'),
        ("Compare it with another model on rows of your own:", f"tunesmith compare OTHER {folder} --data_files test.jsonl"),
    ]
    if not run.task.head:
        found.insert(0, ("Talk to it:", f"tunesmith chat {folder}"))
        if (run.folder / "adapter").is_dir():
            found.append(("As one plain model for other programs:", f"tunesmith merge {folder} -o merged"))
    return found


def _listed(value: Any) -> Sequence[Any]:
    return [] if value is None else list(value) if isinstance(value, (list, tuple)) else [value]
