"""What a search can't do is said in one line, and nothing is left behind."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tunesmith.cli.main import main
from tunesmith.errors import UsageError
from tunesmith.export.search.choice import Limits
from tunesmith.export.search.options import SearchOptions, tolerance_of

pytest.importorskip("onnxruntime_genai", reason="needs onnxruntime-genai (extra 'cpu')")

WRONG = [
    (["--trials", "0"], "--trials"),
    (["--trials", "x"], "--trials"),
    (["--trials", "3", "--precision", "int4"], "--trials has no effect with --precision int4, which is the only one tried"),
    (["--trials", "3", "--no-proof"], "--trials has no effect with --no-proof"),
    (["--trials", "3", "--format", "gguf"], "--trials has no effect with --format gguf"),
    (["--trials", "3", "--extra_options", "accuracy_level=1"], "--trials has no effect with --extra_options"),
    (["--trials", "3", "--provider", "DmlExecutionProvider"], "--trials has no effect on other devices"),
    (["--trials", "3", "--block_size", "48"], "--block_size 48 is not possible"),
    (["--trials", "3", "--recover", "5"], "--trials and --recover: an adapter that was recovered ships as it was trained"),
    (["--max_minutes", "0"], "--max_minutes"),
    (["--max_size_mb", "0"], "--max_size_mb"),
    (["--max_latency_ms", "-1"], "--max_latency_ms"),
    (
        ["--max_size_mb", "5", "--max_latency_ms", "2", "--format", "gguf"],
        "--max_size_mb, --max_latency_ms have no effect with --format gguf",
    ),
    (["--min_quality", "1.2"], "--min_quality"),
    (["--min_quality", "0.9", "--task_drop", "0.1"], "--min_quality and --task_drop say the same in two ways"),
    (["--calibration_files", "absent.jsonl"], "absent.jsonl"),
    (["--calibration_files", "COLUMNS"], "no row has what the model was trained on: question, answer; there is: text"),
    (["--calibration_files", "HELD"], "all rows are held-out ones, which recipes are judged by"),
    (["--calibration_files", "BROKEN"], "broken.jsonl"),
]


@pytest.mark.parametrize(("words", "said"), WRONG, ids=[" ".join(words) for words, _ in WRONG])
def test_mistakes_are_one_line(words: list[str], said: str, searched_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (there := tmp_path / "there").mkdir()
    (there / "columns.jsonl").write_text(json.dumps({"text": "hello"}) + "\n")
    (there / "broken.jsonl").write_text('{"question": \n')
    named = {"COLUMNS": there / "columns.jsonl", "BROKEN": there / "broken.jsonl", "HELD": searched_run / "held_out.jsonl"}
    asked = [str(named.get(word, word)) for word in words]
    assert main(["auto-opt", str(searched_run), "-o", str(tmp_path / "out"), *asked]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert errors[-1].startswith("tunesmith: error: ")
    assert said in errors[-1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["there"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_cannot_be_written(searched_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (closed := tmp_path / "closed").mkdir(mode=0o555)
    assert main(["auto-opt", str(searched_run), "-o", str(closed / "out"), "--trials", "2"]) == 2
    assert "no permission in" in capsys.readouterr().err.splitlines()[-1]


def test_trials_that_cannot_be_kept(searched_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out-search").write_text("a file of mine")
    assert main(["auto-opt", str(searched_run), "-o", str(tmp_path / "out"), "--trials", "2"]) == 2
    assert "out-search is a file" in capsys.readouterr().err.splitlines()[-1]
    assert (tmp_path / "out-search").read_text() == "a file of mine"


def test_heads_and_graphs_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from exported_heads import save_headed

    save_headed("bert", "text-classification", tmp_path / "encoder")
    assert main(["auto-opt", str(tmp_path / "encoder"), "-o", str(tmp_path / "out"), "--trials", "3"]) == 2
    assert "--trials has no effect on a head model, which is quantized by channel" in capsys.readouterr().err.splitlines()[-1]
    assert main(["auto-opt", "--model_script", "net.py:make", "-o", str(tmp_path / "out"), "--trials", "3"]) == 2
    assert "recipes are searched for models that write text, not for a graph" in capsys.readouterr().err.splitlines()[-1]


def test_quality_and_drop_are_two_words_for_one_thing() -> None:
    assert tolerance_of(None, None, usual=0.01) == 0.01
    assert tolerance_of(None, 0.2, usual=0.01) == 0.2
    assert tolerance_of(0.95, None, usual=0.01) == pytest.approx(0.05)
    with pytest.raises(UsageError, match=r"--min_quality is 1\.2"):
        tolerance_of(1.2, None, usual=0.01)


def test_limits() -> None:
    assert SearchOptions().limits(None) == Limits()
    assert SearchOptions(max_size_mb=90).limits(None) == Limits(max_bytes=90e6, best=True)
    assert SearchOptions(max_size_mb=90).limits(80_000_000) == Limits(max_bytes=80e6, best=True)
    assert SearchOptions(trials=3).limits(80_000_000) == Limits(max_bytes=80e6)
    for wrong in ({"trials": 0}, {"max_minutes": 0.0}, {"max_size_mb": float("nan")}, {"max_latency_ms": float("inf")}):
        with pytest.raises(UsageError, match="--"):
            SearchOptions(**wrong)  # type: ignore[arg-type]
