"""What is read from a run's folder, and that broken files are left out and not an error."""

from __future__ import annotations

from pathlib import Path

import pytest

from finished_run import write_lines, write_run
from tunesmith.errors import ModelError
from tunesmith.report.run_files import read_run_files


def test_what_a_run_holds(tmp_path: Path) -> None:
    run = read_run_files(write_run(tmp_path / "run"))
    assert run.verdict is not None
    assert run.verdict.outcome == "gain"
    assert run.num_held_out == len(run.answered) == 40
    assert run.series("eval_loss") == [(0, 2.0), (10, 1.0), (20, 0.6), (30, 0.5), (40, 0.5)]
    assert run.option("learning_rate") == 1e-3
    assert run.option("nothing") is None
    first, eleventh = run.answered[0], run.answered[10]
    assert (first.tuned, first.base, first.change) == ("card", "card", 0.0)
    assert (eleventh.tuned_score, eleventh.base_score, eleventh.change) == (1.0, 0.0, 1.0)
    assert first.probability == 0.9


def test_rows_are_joined_by_their_number(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", rows=3, outcome=False)
    write_lines(folder / "predictions_base.jsonl", [{"row": 2, "output": "two", "score": 0.5}])
    found = read_run_files(folder).answered
    assert [row.base for row in found] == [None, "two", None]
    assert [row.change for row in found] == [0.0, 0.5, 0.0]


def test_a_run_without_a_verdict(tmp_path: Path) -> None:
    run = read_run_files(write_run(tmp_path / "run", answers=False))
    assert (run.verdict, run.answered, run.num_held_out) == (None, (), 0)


def test_broken_lines_are_left_out(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    (folder / "metrics.jsonl").write_text('{"step": 1, "loss": 2}\n[1]\n{"step": 2, "loss": NaN}\n{"step": 3, "lo')
    assert read_run_files(folder).series("loss") == [(1, 2)]
    (folder / "predictions.jsonl").write_bytes(b'{"row": 1, "output": ["a", "b"], "references": "x", "score": true}\n\xff\xfe\n')
    (row,) = read_run_files(folder).answered
    assert (row.tuned, row.references, row.tuned_score) == ("a, b", ("x",), None)


def test_cut_and_dropped_rows_are_counted(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    write_lines(folder / "cut_rows.jsonl", [{"row": 1, "what": "cut"}, {"row": 2, "what": "dropped"}, {"row": 3, "what": "cut"}])
    run = read_run_files(folder)
    assert (run.num_cut, run.num_dropped) == (2, 1)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.write_text("x"), "is a file"),
        (lambda path: path.mkdir(), "holds no finished fine-tuning. Name the output folder"),
        (lambda path: (path / "checkpoints").mkdir(parents=True), "--resume --output_path"),
    ],
)
def test_what_is_no_run(tmp_path: Path, make: object, said: str) -> None:
    make(tmp_path / "x")  # type: ignore[operator]
    with pytest.raises(ModelError, match=said):
        read_run_files(tmp_path / "x")
