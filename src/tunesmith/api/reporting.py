"""What a run was worth: compared, told on a page, and why it is no better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.api.answering import load

if TYPE_CHECKING:
    from tunesmith.evaluate.verdict import Verdict
    from tunesmith.report.diagnose import Diagnosis


def compare(
    first: str | Path,
    second: str | Path,
    *,
    data_files: Sequence[str],
    max_samples: int | None = None,
    map_columns: Mapping[str, str] | None = None,
    metric: str | None = None,
    max_new_tokens: int | None = None,
    seed: int = 0,
    **loading: Any,
) -> Verdict:
    """Let two models answer the same rows, and say whether the second is better than the first.

    Args:
        first, second: models as :func:`load` takes them; one that was not tuned is asked as the other was in training.
        data_files: rows with prompts and right answers.
        max_samples: most rows, spread evenly.
        map_columns: old name -> new name.
        metric: what decides; that of the task by default.
        max_new_tokens: where answers are cut.
        seed: of the bootstrap.
        **loading: passed to :func:`load` for both.

    Raises:
        UserError: as :func:`load`, and for rows or metrics that models can't be compared by.
    """
    from tunesmith.data.sources import load_splits
    from tunesmith.evaluate.comparison import compare as compare_models
    from tunesmith.evaluate.verdict import Names
    from tunesmith.runtime.places import find_places

    for model in (first, second):
        find_places(model)  # a second model that isn't there is named before the first has answered everything
    splits = load_splits(data_files=list(data_files), map_columns=map_columns)
    return compare_models(
        lambda: load(first, **loading),
        lambda: load(second, **loading),
        splits.train,
        names=Names(str(first), str(second)),
        metric=metric,
        max_rows=max_samples,
        max_new_tokens=max_new_tokens,
        origin=splits.origin,
        seed=seed,
    )


def report(*runs: str | Path, output_path: str | Path | None = None, ratings: Sequence[str | Path] = (), overwrite: bool = False) -> Path:
    """Write the page that tells a finished run or an exported folder, or compares several runs, and return its path.

    Args:
        *runs: folders of finished runs, or one exported folder.
        output_path: file of the page; by default ``report.html`` in the run's folder, for several runs in the working folder.
        ratings: folders that ``tunesmith rate`` filled; what people said of the answers then stands on the page.
        overwrite: replace ``output_path`` when it is there already; a run's own page is always written anew.

    Raises:
        UserError: when a folder holds no finished run, a rating holds no votes, or the page can't be written.
    """
    from tunesmith.report.export_page import is_export, write_export_report
    from tunesmith.report.page import write_report
    from tunesmith.report.runs_page import write_comparison

    folders = [Path(run).expanduser() for run in runs]
    path = None if output_path is None else Path(output_path).expanduser()
    rated = [Path(folder).expanduser() for folder in ratings]
    if len(folders) == 1 and is_export(folders[0]):
        return write_export_report(folders[0], path, overwrite=overwrite)
    if len(folders) == 1:
        return write_report(folders[0], path, ratings=rated, overwrite=overwrite)
    return write_comparison(folders, path, ratings=rated, overwrite=overwrite)


def diagnose(run: str | Path) -> Diagnosis:
    """Say why a finished run's result is poor, as far as its files tell, and what to try next.

    Raises:
        UserError: when the folder holds no finished run.
    """
    from tunesmith.report.diagnose import diagnose as diagnose_run
    from tunesmith.report.run_files import read_run_files

    return diagnose_run(read_run_files(Path(run).expanduser()))
