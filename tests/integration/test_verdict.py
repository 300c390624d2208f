"""Runs through the public command end in a verdict that is right: nothing is gained where labels are shuffled, much where they are not."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from commands import command
from tunesmith import api
from tunesmith.data.samples import sample_rows

pytestmark = pytest.mark.integration

QUICK = ["--torch_dtype", "float32", "--learning_rate", "5e-3", "--per_device_train_batch_size", 16, "--show_answers", 0]


def write_rows(file: Path, rows: list[dict[str, str]]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path, colours: Path) -> Path:
    """A finished run of the tiny model on labels that can't be told from the texts; its words are in stdout.txt."""
    out = tmp_path_factory.mktemp("runs") / "out"
    rows = [json.loads(line) for line in colours.read_text().splitlines()]
    labels = [row["label"] for row in rows]
    random.Random(0).shuffle(labels)
    file = write_rows(out.parent / "shuffled.jsonl", [{**row, "label": label} for row, label in zip(rows, labels, strict=True)])
    done = command("finetune", file, "-m", tiny_folder, "-o", out, "--max_steps", 10, "--validation_fraction", 0.5, *QUICK)
    assert done.returncode == 0, done.stderr
    (out / "stdout.txt").write_text(done.stdout)
    return out


def test_shuffled_labels_are_no_gain(run: Path) -> None:
    verdict = json.loads((run / "verdict.json").read_text())
    assert verdict["outcome"] == "no gain shown"
    assert verdict["metric"] == "accuracy"
    assert verdict["num_rows"] == 30
    assert set(verdict["baselines"]) == {"majority", "tfidf_logistic_regression"}
    assert set(verdict["forgetting"]) >= {"documentation", "ratio"}
    said = (run / "stdout.txt").read_text()
    assert "No gain shown: accuracy " in said
    assert f"Next: tunesmith diagnose {run}" in said


def test_what_is_beside_it(run: Path) -> None:
    rows = {
        name: [json.loads(line) for line in (run / name).read_text().splitlines()]
        for name in ("predictions.jsonl", "predictions_base.jsonl")
    }
    assert {len(found) for found in rows.values()} == {30}
    assert all({row["output"] for row in found} <= {"red", "green", "blue"} for found in rows.values()), "other answers can't happen"
    page = (run / "report.html").read_text()
    assert "No gain shown" in page
    assert "Confusion matrix" in page
    assert not [path for path in run.iterdir() if path.name.startswith(".")]


def test_the_next_command(run: Path) -> None:
    done = command("diagnose", run)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("Next: tunesmith ")
    assert "learning rate and duration" in done.stdout


def test_a_model_against_itself_and_against_its_base(run: Path, tiny_folder: Path) -> None:
    file = run.parent / "shuffled.jsonl"
    same = api.compare(run, run, data_files=[str(file)], dtype="float32", max_samples=20)
    assert (same.outcome, same.difference, same.interval) == ("no gain shown", 0.0, (0.0, 0.0))
    judged = json.loads((run / "predictions_base.jsonl").read_text().splitlines()[0])
    again = api.compare(tiny_folder, run, data_files=[str(write_rows(run.parent / "held.jsonl", held_out(run)))], dtype="float32")
    assert again.num_rows == 30
    assert again.base == pytest.approx(json.loads((run / "verdict.json").read_text())["base"]), "asked in the same way as by the run"
    assert judged["references"]


def held_out(run: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (run / "held_out.jsonl").read_text().splitlines()]


def test_without_held_out_rows_the_run_stays_and_says_so(tmp_path: Path, tiny_folder: Path, colours: Path) -> None:
    out = tmp_path / "out"
    done = command("finetune", colours, "-m", tiny_folder, "-o", out, "--max_steps", 1, "--validation_fraction", 0, *QUICK)
    assert done.returncode == 0, done.stderr
    assert "there is no verdict: no rows were held out" in done.stderr
    assert (out / "manifest.json").is_file()
    assert "No verdict" in (out / "report.html").read_text()
    assert not (out / "verdict.json").exists()


def test_no_verdict_when_none_is_wanted(tmp_path: Path, tiny_folder: Path, colours: Path) -> None:
    out = tmp_path / "out"
    done = command("finetune", colours, "-m", tiny_folder, "-o", out, "--max_steps", 1, "--no-verdict", *QUICK, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["verdict"] is None
    assert not (out / "predictions.jsonl").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("compare", "{run}", "{run}", "--data_files", "{file}", "--metric", "f1"), "has no meaning for a single row"),
        (("compare", "{run}", "{run}", "--data_files", "{file}", "--metric", "accuraccy"), "Did you mean 'accuracy'?"),
        (("compare", "{run}", "{run}", "--data_files", "{none}"), "none.jsonl"),
        (("compare", "{run}", "{none}", "--data_files", "{file}"), "there is no model folder"),
        (("compare", "{run}", "{run}", "--data_files", "{other}"), "no row has a right answer"),
        (("report", "{file}"), "is a file. Name the output folder"),
        (("report", "{run}", "-o", "{file}"), "is there already"),
        (("report", "{run}", "-o", "{none}/x.html"), "does not exist"),
        (("diagnose", "{none}"), "does not exist"),
    ],
)
def test_bad_inputs_are_one_line(words: tuple[str, ...], said: str, run: Path, tmp_path: Path) -> None:
    other = write_rows(tmp_path / "other.jsonl", [{"sentence": "a"}])
    places = {"run": run, "file": run.parent / "shuffled.jsonl", "none": tmp_path / "none.jsonl", "other": other}
    done = command(*(word.format(**places) for word in words))
    assert done.returncode == 2, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("tunesmith: error:")]
    assert said in line
    assert "Traceback" not in done.stderr


def test_the_real_model_gains_on_real_messages(tmp_path: Path, sample_model: Path) -> None:
    file = write_rows(tmp_path / "tones.jsonl", sample_rows("tones")[:200])
    training = {"max_steps": 16, "per_device_train_batch_size": 8, "learning_rate": 2e-3, "validation_fraction": 0.2, "show_answers": 0}
    result = api.finetune(str(file), model_name_or_path=str(sample_model), output_path=str(tmp_path / "out"), **training)
    assert result.verdict is not None
    assert result.verdict["outcome"] == "gain"
    assert result.verdict["tuned"] > result.verdict["base"] + 0.3
    assert result.report_path == tmp_path / "out" / "report.html"
