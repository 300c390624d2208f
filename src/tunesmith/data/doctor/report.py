"""What the doctor found, for people and for programs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tunesmith.data.doctor.findings import SEVERITIES, Finding, Severity, place_in_words

#: How much a finding makes a row worse.
WEIGHTS: Mapping[Severity, int] = {"error": 100, "warning": 10, "note": 1}
#: Kinds of findings about no single row, and lines of figures, that the summary shows.
MOST_SHOWN = 12
_LONGEST_ITEM = 160


@dataclass(frozen=True)
class BadRow:
    """A row with everything that is wrong with it."""

    place: str
    findings: tuple[Finding, ...]

    @property
    def weight(self) -> int:
        """How bad it is."""
        return sum(WEIGHTS[finding.severity] for finding in self.findings)


@dataclass(frozen=True)
class Report:
    """The result of an examination.

    Attributes:
        files: what was read.
        num_rows: rows that could be read, and rows that could not.
        findings: in the order of files and rows, those about the whole data first; at most ``MOST_LISTED`` of a kind.
        counts: findings of each kind, (check, severity) -> number, those that are not listed too.
        figures: what describes the data: languages, lengths, labels, diversity …
        format: how the rows were understood, in words.
    """

    files: tuple[str, ...]
    num_rows: int
    findings: tuple[Finding, ...]
    counts: Mapping[tuple[str, Severity], int]
    figures: Mapping[str, Any] = field(default_factory=dict)
    format: str = ""

    def count(self, severity: Severity) -> int:
        """Return how many findings there are of a severity."""
        return sum(number for (_, found), number in self.counts.items() if found == severity)

    @property
    def num_unlisted(self) -> int:
        """Findings that are counted but not listed."""
        return sum(self.counts.values()) - len(self.findings)

    def of(self, *checks: str) -> tuple[Finding, ...]:
        """Return the findings of these kinds."""
        return tuple(finding for finding in self.findings if finding.check in checks)

    def worst(self, most: int = 10) -> list[BadRow]:
        """Return the rows with the gravest findings, the worst first."""
        rows: dict[str, list[Finding]] = {}
        for finding in self.findings:
            if finding.row is not None or finding.line is not None:
                rows.setdefault(place_in_words(finding.file, finding.row, finding.line), []).append(finding)
        bad = [BadRow(place, tuple(found)) for place, found in rows.items() if any(one.severity != "note" for one in found)]
        return sorted(bad, key=lambda row: -row.weight)[:most]

    def words(self, *, strict: bool = False) -> list[str]:
        """Return the summary that people read."""
        lines = [f"{self.num_rows:,} rows in {_several(len(self.files), 'file')}{f', {self.format}' if self.format else ''}."]
        lines += ["", *self._kinds(), *self._general(), *self._worst_rows()]
        figures = [f"{name}: {_plain(value)}" for name, value in self.figures.items()]
        lines += ["", "Figures: " + "; ".join(figures)] if figures else []
        return [*lines, "", self._verdict(strict)]

    def _kinds(self) -> list[str]:
        if not self.counts:
            return ["Nothing found."]
        order = sorted(self.counts.items(), key=lambda item: (SEVERITIES.index(item[0][1]), -item[1], item[0][0]))
        width = max(len(check) for check, _ in self.counts)
        lines = []
        for (check, severity), number in order:
            example = next(finding for finding in self.findings if finding.check == check and finding.severity == severity)
            lines.append(f"{severity:<8} {number:>7,} {check:<{width}}  {_short(str(example))}")
        return lines

    def _general(self) -> list[str]:
        """Return what concerns no single row, beyond the first of each kind, which stands in the table."""
        found = [finding for finding in self.findings if finding.row is None and finding.line is None]
        repeated = [one for at, one in enumerate(found) if any(earlier.check == one.check for earlier in found[:at])]
        return ["", *(f"  {_short(str(finding))}" for finding in repeated[:MOST_SHOWN])] if repeated else []

    def _worst_rows(self) -> list[str]:
        worst = self.worst()
        if not worst:
            return []
        lines = ["", "The worst row:" if len(worst) == 1 else f"The {len(worst)} worst rows:"]
        for row in worst:
            what = "; ".join(f"{finding.check}: {finding.message}" for finding in row.findings)
            lines.append(f"  {row.place}  {_short(what)}")
        return lines

    def _verdict(self, strict: bool) -> str:
        counted = ", ".join(_several(self.count(severity), severity) for severity in SEVERITIES)
        more = f" ({self.num_unlisted:,} of them not listed)" if self.num_unlisted else ""
        failed = self.failed(strict=strict)
        hint = " All of them: --json. What can be mended: tunesmith data clean." if self.findings else ""
        return f"{'Not in order' if failed else 'In order'}: {counted}{more}.{hint}"

    def failed(self, *, strict: bool = False) -> bool:
        """Return whether there are errors, or with ``strict`` warnings."""
        return bool(self.count("error") or (strict and self.count("warning")))

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        by_check: Counter[str] = Counter()
        for (check, _), number in self.counts.items():
            by_check[check] += number
        return {
            "files": list(self.files),
            "format": self.format,
            "num_rows": self.num_rows,
            "num_errors": self.count("error"),
            "num_warnings": self.count("warning"),
            "num_notes": self.count("note"),
            "num_unlisted": self.num_unlisted,
            "checks": dict(sorted(by_check.items())),
            "figures": dict(self.figures),
            "worst": [{"place": row.place, "checks": [finding.check for finding in row.findings]} for row in self.worst()],
            "findings": [finding.to_dict() for finding in self.findings],
        }


def _several(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST_ITEM else f"{line[: _LONGEST_ITEM - 1]}…"


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_plain(item)}" for name, item in value.items())
    return f"{value:,}" if isinstance(value, int) else json.dumps(value)
