"""``tunesmith report``: the page of a run, or of several runs side by side."""

from __future__ import annotations

from tunesmith.cli.command import Command, Given
from tunesmith.cli.output import print_json
from tunesmith.config.compare import ReportOptions
from tunesmith.config.resolve import FLAG, resolve
from tunesmith.errors import ConfigError


def run(given: Given, as_json: bool) -> int:
    """Write the page, and print its path."""
    from tunesmith import api

    options = resolve(ReportOptions, [(FLAG, given)]).options
    if not options.runs:
        raise ConfigError(["no run is named"], fix="For example: tunesmith report out")
    path = api.report(*options.runs, output_path=options.output_path, ratings=options.ratings or (), overwrite=options.overwrite)
    if as_json:
        print_json({"report_path": path})
    else:
        print(f"Report: {path}")
    return 0


COMMAND = Command(
    name="report",
    description="Write the page that tells a run, or compares several: one file that opens in any browser, without a network.",
    usage=("tunesmith report RUN [options]", "tunesmith report RUN RUN … [options]"),
    options=ReportOptions,
    run=run,
    words="runs",
    examples=("tunesmith report out", "tunesmith report run-1 run-2 run-3 -o runs.html", "tunesmith report out --ratings ratings"),
)
