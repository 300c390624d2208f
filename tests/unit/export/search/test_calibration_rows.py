"""What recipes are calibrated on: the run's own training rows, never the held-out ones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tiny_models import save_tiny, tiny_tokenizer
from tunesmith.export.search import calibration_rows as module
from tunesmith.export.search.calibration_rows import calibration_rows
from tunesmith.export.source import read_source


def texts(ids: tuple[tuple[int, ...], ...]) -> list[str]:
    return [tiny_tokenizer().decode(row) for row in ids]


def test_the_rows_of_the_training_without_the_held_out(searched_run: Path) -> None:
    source = read_source(str(searched_run))
    found = calibration_rows(source, None, ())
    assert found.words == "40 of the run's training rows"
    assert len(found.ids) == 40
    assert not {f"{n}?" for n in range(24)} & {word for text in texts(found.ids) for word in text.split()}
    assert all(text.startswith("Q: Which colour") and "A: " in text for text in texts(found.ids))
    judged = json.loads((searched_run.parent / "rows.jsonl").read_text().splitlines()[30])
    assert len(calibration_rows(source, None, (judged,)).ids) == 39  # rows of --data_files are not looked at either


def test_named_rows(searched_run: Path, tmp_path: Path) -> None:
    file = tmp_path / "more.jsonl"
    rows = [{"question": "why?", "answer": "so"}, {"question": None, "answer": "x"}, {"question": "how?", "answer": " "}]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = calibration_rows(read_source(str(searched_run)), [str(file)], ())
    assert found.words == f"1 of rows of {file}"
    assert texts(found.ids) == ["Q: why?\nA: so<|im_end|>"]


def test_without_training_rows_text_of_the_standard_library(searched_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(searched_run, tmp_path / "run")
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["options"]["data_name"]["value"] = str(tmp_path / "gone.jsonl")
    (run / "manifest.json").write_text(json.dumps(manifest))
    for path in (run, save_tiny("llama", tmp_path / "plain")):
        assert "paragraphs of the standard library's documentation" in calibration_rows(read_source(str(path)), None, ()).words


def test_what_is_looked_at_is_bounded(searched_run: Path, monkeypatch: object) -> None:
    module.MOST_TOKENS, kept = 100, module.MOST_TOKENS
    try:
        assert sum(map(len, calibration_rows(read_source(str(searched_run)), None, ()).ids)) < 200
    finally:
        module.MOST_TOKENS = kept
