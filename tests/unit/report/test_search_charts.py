"""The pictures of a search: what is drawn, and what is said of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tunesmith.artifact import Manifest, write_manifest
from tunesmith.errors import ModelError
from tunesmith.export.certificate import Certificate
from tunesmith.export.search.result import SearchResult, SearchRow
from tunesmith.export.stages import StageScores
from tunesmith.report.export_page import write_export_report
from tunesmith.report.search_charts import search_charts

ROWS = (
    SearchRow("int4 rtn", 80.0, 0.76, "76.0%", 1.4, 0.3, lost="exact answers <76%>", front=True),
    SearchRow("int4 gptq", 82.0, 0.885, "88.5%", 1.1, 0.05, token_ms=11.0, front=True, chosen=True),
    SearchRow("int4 hqq", 84.0, 0.80, "80.0%", 1.3, 0.2, lost="exact answers 80%"),
    SearchRow("int8 rtn", 150.0, 0.89, "89.0%", 1.05, 0.01, token_ms=18.0, front=True),
)
SEARCH = SearchResult(ROWS, "exact answers", True, True, 0.89, 0.8811, "400 of the run's training rows", ("Not tried: one.",))


def test_size_and_speed_each_have_a_picture_in_words() -> None:
    size, speed = search_charts(SEARCH)
    assert (size.title, speed.title) == ("Exact answers against size", "Exact answers against speed")
    assert size.text == (
        "4 recipes, of which 2 keep the metric; int4 gptq (82.0 MB, 88.5%) ships. The tuned model has 89.0%. No other beats: "
        "int4 rtn (80.0 MB, 76.0%); int4 gptq (82.0 MB, 88.5%); int8 rtn (150.0 MB, 89.0%)."
    )
    assert "2 recipes, of which 2 keep the metric" in speed.text
    assert "18.0 ms a token" in speed.text
    for chart in (size, speed):
        assert "currentColor" in chart.svg
        assert "var(--series-1)" in chart.svg
        assert "#030303" not in chart.svg  # every colour is the page's, which knows light and dark
        assert ">ships<" in chart.svg


def test_less_is_better_of_perplexity() -> None:
    figures = (("a", 10.0, 12.0), ("b", 20.0, 11.0), ("c", 30.0, 11.5))
    rows = tuple(SearchRow(name, size, value, f"{value:g}", value, 0.1) for name, size, value in figures)
    (chart,) = search_charts(replace(SEARCH, rows=rows, heading="perplexity", percent=False, greater_is_better=False, reference=10.9))
    assert "none of these ships. The tuned model has 10.9. No other beats: a (10.0 MB, 12); b (20.0 MB, 11)." in chart.text


def test_one_recipe_is_no_picture() -> None:
    assert search_charts(replace(SEARCH, rows=ROWS[:1])) == []
    assert search_charts(replace(SEARCH, rows=(replace(ROWS[0], quality=None), ROWS[1]))) == []


def test_the_page_shows_all_of_it(tmp_path: Path) -> None:
    certificate = Certificate((StageScores("tuned", "shown"),)).to_dict()
    export = {"precision": "int4", "provider": "CPUExecutionProvider", "search": json.loads(json.dumps(SEARCH.to_dict()))}
    write_manifest(tmp_path, Manifest(kind="onnx", base="tiny", extra={"export": export, "certificate": certificate}))
    page = write_export_report(tmp_path).read_text(encoding="utf-8")
    for words in ("Recipes that were tried", "int4 gptq", "88.5%", "loses too much", "Not tried: one.", "400 of the run", "&lt;76%&gt;"):
        assert words in page
    assert page.count("<figure") == 2
    export["search"] = {"rows": [{}]}
    write_manifest(tmp_path, Manifest(kind="onnx", base="tiny", extra={"export": export, "certificate": certificate}))
    with pytest.raises(ModelError, match=r"the recipes in .* can't be read"):
        write_export_report(tmp_path)


def test_the_table() -> None:
    text = SEARCH.table()
    assert [heading for heading, _ in SEARCH.columns()] == ["recipe", "MB", "exact answers", "perplexity", "KL", "ms a token", ""]
    assert "int4 gptq    82.0" in text
    assert "ships" in text
    assert SearchResult.from_dict({**SEARCH.to_dict(), "later": 1}) == SEARCH
