"""What a search found: one row a recipe, as a table for people and as plain values for the manifest."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from tunesmith.export.certificate_table import table_text
from tunesmith.export.search.choice import Quality, pareto_front
from tunesmith.export.search.records import Trial

_NONE = "–"


@dataclass(frozen=True)
class SearchRow:
    """One recipe.

    Attributes:
        name: of the recipe.
        size_mb: of the model's files, in 10^6 bytes.
        quality: the figure that decides.
        shown: the same for people.
        perplexity, kl: of right answers; from the tuned model, in nats a position.
        lost: what it lost beyond the tolerances, empty when nothing.
        token_ms: milliseconds a written token, where that was measured.
        front: whether no other is as small and better.
        chosen: whether it is the one that ships.
        recipe: as plain values.
    """

    name: str
    size_mb: float
    quality: float | None
    shown: str
    perplexity: float | None
    kl: float | None
    lost: str = ""
    token_ms: float | None = None
    front: bool = False
    chosen: bool = False
    recipe: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class SearchResult:
    """All recipes that were tried.

    Attributes:
        rows: the smallest first.
        heading: what the figure is called that decides.
        percent: whether it is a share.
        greater_is_better: its direction.
        reference, least: its value with the tuned model, and the worst that may ship.
        calibrated_on: the rows that recipes looked at; empty where none did.
        words: what else should be known.
    """

    rows: tuple[SearchRow, ...]
    heading: str
    percent: bool
    greater_is_better: bool
    reference: float
    least: float
    calibrated_on: str
    words: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, trials: Sequence[Trial], quality: Quality, chosen: Trial | None, *, calibrated_on: str, words: Sequence[str] = ()
    ) -> SearchResult:
        """Return the result of some trials, of which one may be chosen."""
        front = {trial.recipe.key() for trial in pareto_front(trials, quality)}
        rows = [
            SearchRow(
                name=trial.recipe.name,
                size_mb=trial.size_bytes / 1e6,
                quality=value if math.isfinite(value := quality.value(trial.scores)) else None,
                shown=quality.words(trial.scores),
                perplexity=trial.scores.perplexity,
                kl=trial.scores.kl,
                lost="; ".join(text.partition(": ")[2] for text in trial.failures),
                token_ms=trial.token_ms,
                front=trial.recipe.key() in front,
                chosen=chosen is not None and trial.recipe == chosen.recipe,
                recipe=trial.recipe.to_dict(),
            )
            for trial in sorted(trials, key=lambda trial: trial.size_bytes)
        ]
        part = quality.allowed * abs(quality.reference)
        return cls(
            rows=tuple(rows),
            heading=quality.heading,
            percent=quality.is_percent,
            greater_is_better=quality.greater_is_better,
            reference=quality.reference,
            least=quality.reference - part if quality.greater_is_better else quality.reference + part,
            calibrated_on=calibrated_on,
            words=tuple(words),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as the manifest keeps them under ``export`` as ``search``."""
        return {**asdict(self), "rows": [asdict(row) for row in self.rows], "words": list(self.words)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SearchResult:
        """Read what :meth:`to_dict` wrote; keys of later versions are ignored."""
        known = {item.name: values[item.name] for item in fields(cls) if item.name in values}
        names = {item.name for item in fields(SearchRow)}
        rows = tuple(SearchRow(**{name: value for name, value in row.items() if name in names}) for row in values["rows"])
        return cls(**{**known, "rows": rows, "words": tuple(values.get("words") or ())})

    def table(self) -> str:
        """Return the table of all recipes as text."""
        return table_text(self.columns())

    def columns(self) -> list[tuple[str, list[str]]]:
        """Return (heading, one cell a recipe) of every column that has a figure."""
        columns = [
            ("recipe", [row.name for row in self.rows]),
            ("MB", [f"{row.size_mb:,.1f}" for row in self.rows]),
            (self.heading, [row.shown for row in self.rows]),
            ("perplexity", [_number(row.perplexity) for row in self.rows]),
            ("KL", [_number(row.kl, 2) for row in self.rows]),
            ("ms a token", [_NONE if row.token_ms is None else f"{row.token_ms:.1f}" for row in self.rows]),
            ("", ["ships" if row.chosen else "loses too much" if row.lost else "keeps" for row in self.rows]),
        ]
        if self.heading == "perplexity":
            del columns[3]
        return [column for column in columns if set(column[1]) != {_NONE}]


def _number(value: float | None, digits: int = 4) -> str:
    return _NONE if value is None else f"{value:.{digits}g}"
