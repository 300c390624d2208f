"""Curves as SVG for the page: drawn by matplotlib, coloured by the page's style sheet, so that they follow light and dark."""

from __future__ import annotations

import io
import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tunesmith.cache import cache_folder

if TYPE_CHECKING:
    from tunesmith.report.run_files import RunFiles

Points = Sequence[tuple[float, float]]

#: Colours that matplotlib is told, and what stands for them in the page.
INK, _GRID = "#010101", "#020202"
SERIES = ("#030303", "#040404", "#050505", "#060606", "#070707", "#080808")
_STYLES = {INK: "currentColor", _GRID: "var(--grid)", **{color: f"var(--series-{place})" for place, color in enumerate(SERIES, 1)}}
#: Lines differ by more than colour.
_DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (1, 1)))

#: name in the history -> (title, unit, what the line is called)
_CURVES: tuple[tuple[str, str, tuple[tuple[str, str], ...]], ...] = (
    ("Loss", "nats a token", (("loss", "training"), ("eval_loss", "validation"))),
    ("Token accuracy", "share of tokens", (("eval_token_accuracy", "validation"),)),
    ("Learning rate", "", (("learning_rate", "learning rate"),)),
    ("Gradient norm", "", (("grad_norm", "gradient norm"),)),
    ("Throughput", "tokens a second", (("tokens_per_s", "tokens a second"),)),
    ("Memory", "GiB", (("memory_gib", "process"), ("gpu_memory_gib", "GPU"))),
)


@dataclass(frozen=True)
class Chart:
    """A picture with its words.

    Attributes:
        title: the heading above it.
        svg: the picture, ready to stand in HTML.
        text: what it shows, for whoever doesn't see it.
    """

    title: str
    svg: str
    text: str


def run_charts(run: RunFiles) -> list[Chart]:
    """Return the curves of a training; none for figures that were not logged."""
    charts = []
    for title, unit, lines in _CURVES:
        found = {words: points for name, words in lines if len(points := run.series(name)) > 1}
        if found:
            charts.append(line_chart(title, found, unit=unit, mark=kept_step(run) if title == "Loss" else None))
    return charts


def kept_step(run: RunFiles) -> float | None:
    """Return the step whose weights were kept, when the validation loss tells it."""
    points = [point for point in run.series("eval_loss") if point[0] > 0]
    kept = run.manifest.metrics.get("eval_loss")
    return next((step for step, loss in points if isinstance(kept, (int, float)) and abs(loss - kept) < 1e-9), None)


def line_chart(title: str, lines: Mapping[str, Points], *, unit: str = "", x_label: str = "step", mark: float | None = None) -> Chart:
    """Return lines over steps.

    Args:
        title: what is drawn.
        lines: name -> points.
        unit: of the values.
        x_label: what runs along the bottom.
        mark: a step to draw a line at: the one whose weights were kept.
    """

    def draw(axes: Any) -> None:
        for place, (name, points) in enumerate(lines.items()):
            xs, ys = zip(*points, strict=True)
            marker = "o" if len(points) < 30 else None
            axes.plot(xs, ys, color=SERIES[place % len(SERIES)], linestyle=_DASHES[place % len(_DASHES)], marker=marker, label=name)
        if mark is not None:
            axes.axvline(mark, color=INK, linewidth=0.8, linestyle=":", label=f"kept: step {mark:g}")
        axes.set_xlabel(x_label)
        if unit:
            axes.set_ylabel(unit)
        if len(lines) > 1 or mark is not None:
            axes.legend(frameon=False, labelcolor=INK, fontsize=9)

    said = "; ".join(
        f"{name} from {points[0][1]:.4g} at {x_label} {points[0][0]:g} to {points[-1][1]:.4g} at {points[-1][0]:g}"
        for name, points in lines.items()
    )
    kept = f"; the weights of step {mark:g} are kept" if mark is not None else ""
    text = said if said.startswith(title.lower()) else f"{title}: {said}"
    return Chart(title, svg_of(draw, _identifier(title)), f"{text[:1].upper()}{text[1:]}{kept}.")


def calibration_chart(confidence: Sequence[float], right: Sequence[bool], *, num_bins: int = 10) -> Chart:
    """Return a reliability diagram (Niculescu-Mizil & Caruana 2005): how often answers of a given confidence are right.

    Args:
        confidence: the probability of each answer given.
        right: whether it was right.
    """
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(num_bins)]
    for sure, hit in zip(confidence, right, strict=True):
        bins[min(int(sure * num_bins), num_bins - 1)].append((sure, hit))
    points = [(sum(sure for sure, _ in part) / len(part), sum(hit for _, hit in part) / len(part), len(part)) for part in bins if part]
    error = sum(abs(sure - share) * count for sure, share, count in points) / max(len(confidence), 1)

    def draw(axes: Any) -> None:
        axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=":", label="as sure as right")
        xs, ys, counts = zip(*points, strict=True)
        sizes = [20 + 160 * count / max(counts) for count in counts]
        axes.plot(xs, ys, color=SERIES[0], linewidth=1)
        axes.scatter(xs, ys, s=sizes, color=SERIES[0], label="answers, by how sure")
        axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.06), xlabel="how sure the model was", ylabel="share that was right")
        axes.legend(frameon=False, labelcolor=INK, fontsize=9, loc="upper left")

    said = "; ".join(f"about {sure:.0%} sure: {share:.0%} right of {count}" for sure, share, count in points)
    text = f"Calibration: {said}. Mean distance between how sure and how right: {100 * error:.1f} points."
    return Chart("Calibration", svg_of(draw, "calibration"), text)


def svg_of(draw: Any, name: str) -> str:
    """Let ``draw`` fill axes, and return the picture with the page's colours and names that no other picture has."""
    # its list of fonts goes where our other caches are, not into the user's home
    os.environ.setdefault("MPLCONFIGDIR", str(cache_folder() / "matplotlib"))
    import matplotlib

    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it announces at warning level that it looks for fonts
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    settings = {"svg.fonttype": "none", "svg.hashsalt": name, "path.simplify": True, "axes.formatter.useoffset": False}
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(5.2, 2.9), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        _dress(axes)
        draw(axes)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    return page_svg(stream.getvalue(), name)


def _dress(axes: Any) -> None:
    axes.set_prop_cycle(None)
    axes.grid(True, color=_GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, labelsize=9, length=0)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(_GRID)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set(color=INK, size=9)


def page_svg(text: str, name: str) -> str:
    """Return matplotlib's SVG as a part of a page: no prolog, own ids, the page's colours and fonts, hidden from screen readers.

    The words beside the picture say what it shows.
    """
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", text)
    text = re.sub(r"(?:'[^']+',\s*)+sans-serif", "system-ui, sans-serif", text)
    for color, style in _STYLES.items():
        text = text.replace(color, style)
    text = re.sub(
        r'<svg [^>]*?viewBox="([^"]+)"[^>]*>', r'<svg viewBox="\1" role="presentation" aria-hidden="true" focusable="false">', text
    )
    return text.replace(' xlink:href="', ' href="').strip()


def _identifier(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
