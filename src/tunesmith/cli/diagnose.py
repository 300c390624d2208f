"""``tunesmith diagnose``: why a result is poor, and what to try next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunesmith.cli.command import Command, Given
from tunesmith.cli.output import print_json
from tunesmith.config.compare import DiagnoseOptions
from tunesmith.config.resolve import FLAG, resolve
from tunesmith.errors import ConfigError

if TYPE_CHECKING:
    from tunesmith.report.diagnose import Diagnosis

_SIGNS = {"good": "ok", "unsure": "?", "likely": "!"}


def run(given: Given, as_json: bool) -> int:
    """Look at the run's files, and print what was found."""
    from tunesmith import api

    options = resolve(DiagnoseOptions, [(FLAG, given)]).options
    if options.run is None:
        raise ConfigError(["no run is named"], fix="For example: tunesmith diagnose out")
    found = api.diagnose(options.run)
    if as_json:
        print_json(found)
    else:
        print("\n".join(lines(found)))
    return 0


def lines(found: Diagnosis) -> list[str]:
    """Return the findings, the summary and the command, a line each."""
    width = max(len(finding.topic) for finding in found.findings)
    listed = [f"{_SIGNS[finding.level]:>2}  {finding.topic:<{width}}  {finding.evidence}" for finding in found.findings]
    return [*listed, "", found.summary, f"Next: {found.command}"]


COMMAND = Command(
    name="diagnose",
    description="Walk through the usual causes of poor results with evidence from the run's own files, and name one command to try next.",
    usage=("tunesmith diagnose RUN",),
    options=DiagnoseOptions,
    run=run,
    positionals={1: ("run",)},
    examples=("tunesmith diagnose out",),
)
