"""Pictures take their colours from the page, and their words say what they show."""

from __future__ import annotations

import re

import pytest

from tunesmith.report.charts import calibration_chart, line_chart, page_svg


def test_a_picture_follows_the_page() -> None:
    chart = line_chart("Loss", {"training": [(1, 2.0), (10, 1.0), (20, 0.5)], "validation": [(0, 2.5), (20, 0.75)]}, mark=20)
    assert chart.svg.startswith("<svg viewBox=")
    assert chart.svg.endswith("</svg>")
    assert {"currentColor", "var(--grid)", "var(--series-1)", "var(--series-2)"} <= set(
        re.findall(r"currentColor|var\(--[\w-]+\)", chart.svg)
    )
    assert not re.search(r"#0[0-9]0[0-9]0[0-9]\b", chart.svg), "a colour that no style sheet knows"
    assert "DejaVu" not in chart.svg
    assert "metadata" not in chart.svg
    assert chart.text == (
        "Loss: training from 2 at step 1 to 0.5 at 20; validation from 2.5 at step 0 to 0.75 at 20; the weights of step 20 are kept."
    )


def test_two_pictures_share_no_id() -> None:
    points = {"a": [(0, 1.0), (1, 2.0)]}
    ids = [set(re.findall(r'\bid="([^"]+)"', line_chart(title, points).svg)) for title in ("One", "Two")]
    assert ids[0]
    assert not ids[0] & ids[1]
    svg = line_chart("One", points).svg
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', svg)) <= ids[0]


def test_names_of_lines_are_escaped() -> None:
    assert "<script>" not in line_chart("Loss", {"<script>": [(0, 1.0), (1, 2.0)], "b": [(0, 1.0), (1, 2.0)]}).svg


def test_the_prolog_is_left_out() -> None:
    assert page_svg('<?xml version="1.0"?>\n<svg width="3" viewBox="0 0 3 3" xmlns="x"><metadata>a\nb</metadata></svg>', "x") == (
        '<svg viewBox="0 0 3 3" role="presentation" aria-hidden="true" focusable="false"></svg>'
    )


def test_calibration_in_words() -> None:
    chart = calibration_chart([0.95] * 8 + [0.55] * 2 + [1.0], [True] * 8 + [True, False] + [True])
    assert "about 55% sure: 50% right of 2" in chart.text
    assert "about 96% sure: 100% right of 9" in chart.text
    assert chart.text.endswith("Mean distance between how sure and how right: 4.5 points.")


@pytest.mark.parametrize("value", [0.0, 1e-9, 1e12])
def test_flat_lines_can_be_drawn(value: float) -> None:
    assert "</svg>" in line_chart("Rate", {"rate": [(0, value), (1, value)]}).svg
