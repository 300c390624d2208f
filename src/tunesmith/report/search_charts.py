"""Pictures of a search: every recipe's quality against its size, and against its speed where that was measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tunesmith.report.charts import INK, SERIES, Chart, svg_of

if TYPE_CHECKING:
    from tunesmith.export.search.result import SearchResult, SearchRow

Place = Callable[["SearchRow"], "float | None"]


def search_charts(search: SearchResult) -> list[Chart]:
    """Return the pictures of a search that have two recipes to show; none for fewer."""
    found = []
    for what, unit, place in (("size", "MB", _size), ("speed", "ms a token", _speed)):
        rows = [row for row in search.rows if row.quality is not None and place(row) is not None]
        if len(rows) > 1:
            found.append(_chart(search, rows, what, unit, place))
    return found


def _size(row: SearchRow) -> float | None:
    return row.size_mb


def _speed(row: SearchRow) -> float | None:
    return row.token_ms


def _chart(search: SearchResult, rows: Sequence[SearchRow], what: str, unit: str, place: Place) -> Chart:
    title = f"{search.heading[:1].upper()}{search.heading[1:]} against {what}"
    front = sorted(_front(rows, place, greater_is_better=search.greater_is_better), key=lambda row: place(row) or 0.0)

    def draw(axes: Any) -> None:
        kept, lost = [row for row in rows if not row.lost], [row for row in rows if row.lost]
        if len(front) > 1:
            axes.step(*_points(front, place), where="post", color=INK, linewidth=0.8, linestyle=":", label="no other beats these")
        # a shape each, so that nothing hangs on colour alone
        for part, marker, color, words in ((lost, "x", SERIES[1], "loses too much"), (kept, "o", SERIES[0], "keeps the metric")):
            if part:
                axes.scatter(*_points(part, place), marker=marker, color=color, s=26, label=words, zorder=3)
        for row in rows:
            if row.chosen:
                axes.scatter([place(row)], [row.quality], marker="o", s=130, facecolors="none", edgecolors=INK, label="ships", zorder=4)
        axes.axhline(search.reference, color=INK, linewidth=0.8, linestyle="-", label="tuned model")
        axes.axhline(search.least, color=SERIES[1], linewidth=0.8, linestyle="--", label="the least that may ship")
        axes.set(xlabel=unit, ylabel=search.heading)
        axes.margins(x=0.08, y=0.12)
        axes.legend(frameon=False, labelcolor=INK, fontsize=7.5, loc="best")

    return Chart(title, svg_of(draw, f"search-{what}"), _words(search, rows, front, unit, place))


def _points(rows: Sequence[SearchRow], place: Place) -> tuple[list[float | None], list[float | None]]:
    return [place(row) for row in rows], [row.quality for row in rows]


def _front(rows: Sequence[SearchRow], place: Place, *, greater_is_better: bool) -> list[SearchRow]:
    """Recipes that no other beats in both."""
    sign = 1.0 if greater_is_better else -1.0
    ordered = sorted(rows, key=lambda row: (place(row) or 0.0, -sign * (row.quality or 0.0)))
    front: list[SearchRow] = []
    for row in ordered:
        if not front or sign * (row.quality or 0.0) > sign * (front[-1].quality or 0.0):
            front.append(row)
    return front


def _words(search: SearchResult, rows: Sequence[SearchRow], front: Sequence[SearchRow], unit: str, place: Place) -> str:
    def shown(row: SearchRow) -> str:
        return f"{row.name} ({place(row):,.1f} {unit}, {row.shown})"

    chosen = next((row for row in rows if row.chosen), None)
    ships = f"{shown(chosen)} ships" if chosen is not None else "none of these ships"
    kept = sum(not row.lost for row in rows)
    reference = f"{search.reference:.1%}" if search.percent else f"{search.reference:.4g}"
    listed = "; ".join(shown(row) for row in front)
    return f"{len(rows)} recipes, of which {kept} keep the metric; {ships}. The tuned model has {reference}. No other beats: {listed}."
