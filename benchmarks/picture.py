"""The README's picture, from a finished run: its loss curves, and what it answered before and after.

usage: tunesmith finetune --data_name sample:tones --show_answers 5 -o demo --json > result.json
       python benchmarks/picture.py result.json docs/pictures/demo.svg
"""

from __future__ import annotations

import html
import json
import sys
import textwrap
from pathlib import Path
from typing import Any

WIDTH, HEIGHT, LEFT, TOP, PLOT_WIDTH, PLOT_HEIGHT = 960, 400, 56, 48, 330, 280
INK, SOFT, TRAINING, VALIDATION = "#1f2328", "#59636e", "#9a6700", "#0969da"
FONT = "font-family='-apple-system,Segoe UI,Helvetica,Arial,sans-serif'"


def main() -> None:
    """Read a run's result and write the picture."""
    result = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    logged = (Path(result["output_path"]) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in logged]
    Path(sys.argv[2]).write_text(picture(rows, result), encoding="utf-8")


def picture(rows: list[dict[str, Any]], result: dict[str, Any]) -> str:
    """Return the SVG."""
    training = [(row["step"], row["loss"]) for row in rows if "loss" in row]
    validation = [(row["step"], row["eval_loss"]) for row in rows if "eval_loss" in row]
    last, highest = max(step for step, _ in training), max(loss for _, loss in training + validation)
    first, final = validation[0][1], result["metrics"]["eval_loss"]
    title = f"Validation loss falls from {first:.2f} to {final:.2f} in {result['training_s']:.0f} seconds on two CPU cores"
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {HEIGHT}' role='img' aria-label='{title}' {FONT}>",
        f"<rect width='{WIDTH}' height='{HEIGHT}' rx='8' fill='#ffffff' stroke='#d1d9e0'/>",
        text(LEFT, 28, title, size=15, weight=600),
        *axes(last, highest),
        line(training, last, highest, TRAINING),
        line(validation, last, highest, VALIDATION, dots=True),
        text(LEFT + 190, TOP + 24, "training loss", color=TRAINING),
        text(LEFT + 190, TOP + 44, "validation loss", color=VALIDATION),
        *answers(result["examples"]),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def axes(last: int, highest: float) -> list[str]:
    """Grid lines with their values, and the step axis."""
    parts = []
    for part in range(5):
        value = highest * part / 4
        y = TOP + PLOT_HEIGHT * (1 - part / 4)
        parts.append(f"<line x1='{LEFT}' x2='{LEFT + PLOT_WIDTH}' y1='{y:.0f}' y2='{y:.0f}' stroke='#e6eaef'/>")
        parts.append(text(LEFT - 8, y + 4, f"{value:.1f}", anchor="end", color=SOFT))
        parts.append(text(LEFT + PLOT_WIDTH * part / 4, TOP + PLOT_HEIGHT + 18, f"{last * part / 4:.0f}", anchor="middle", color=SOFT))
    parts.append(text(LEFT + PLOT_WIDTH / 2, TOP + PLOT_HEIGHT + 38, "step", anchor="middle", color=SOFT))
    return parts


def line(points: list[tuple[int, float]], last: int, highest: float, color: str, *, dots: bool = False) -> str:
    """One curve."""
    places = [(LEFT + PLOT_WIDTH * step / last, TOP + PLOT_HEIGHT * (1 - loss / highest)) for step, loss in points]
    drawn = f"<polyline fill='none' stroke='{color}' stroke-width='2' points='{' '.join(f'{x:.1f},{y:.1f}' for x, y in places)}'/>"
    return drawn + "".join(f"<circle cx='{x:.1f}' cy='{y:.1f}' r='3' fill='{color}'/>" for x, y in places if dots)


def answers(examples: list[dict[str, str]]) -> list[str]:
    """Messages the model never saw, with its answers before and after."""
    x, y, parts = LEFT + PLOT_WIDTH + 40, TOP + 12, []
    for example in examples:
        message = textwrap.wrap(example["prompt"], 64)[:2]
        for part in message:
            parts.append(text(x, y, part))
            y += 17
        before = textwrap.shorten(" ".join(example["before"].split()), 62, placeholder=" …")
        parts.append(text(x, y, f"before: {before}", color=SOFT))
        parts.append(text(x, y + 17, f"after: {example['after']}", weight=600, color=VALIDATION))
        y += 44
        if y > HEIGHT - 60:
            break
    return parts


def text(x: float, y: float, words: str, *, size: int = 13, weight: int = 400, anchor: str = "start", color: str = INK) -> str:
    """One line of text."""
    style = f"font-size='{size}' font-weight='{weight}' text-anchor='{anchor}' fill='{color}'"
    return f"<text x='{x:.0f}' y='{y:.0f}' {style}>{html.escape(words)}</text>"


if __name__ == "__main__":
    main()
