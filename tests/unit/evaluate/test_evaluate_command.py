"""``tunesmith evaluate`` on a tiny model in a folder: what comes out, and one line for what can't be done."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import tunesmith
from tiny_models import save_tiny
from tunesmith.cli.main import main
from tunesmith.data.task_file import TaskRecord, write_task
from tunesmith.data.template_file import write_template
from tunesmith.data.templates import Template

ROWS = [{"text": f"the train {number}", "label": ("happy", "sad")[number % 2]} for number in range(6)]
TEMPLATE = Template(
    kind="text",
    text="{text}\n{label}",
    format="text-label",
    task="text-classification",
    columns=(("prompt", "text"), ("answer", "label")),
    answer_column="label",
    stop_tokens=("<|im_end|>",),
)


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that knows two labels, with test sets and a metric beside it."""
    made = tmp_path_factory.mktemp("evaluate")
    model = save_tiny("llama", made / "model")
    write_task(model, TaskRecord("text-classification", labels=("happy", "sad"), label_column="label"))
    write_template(model, TEMPLATE)
    (made / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (made / "empty.jsonl").write_text("")
    (made / "asked.jsonl").write_text('{"text": "no label here"}\n')
    (made / "other.jsonl").write_text('{"question": "a", "label": "sad"}\n')
    (made / "bad.jsonl").write_text('{"text": "a", "label": "sad"}\n{"text": \n')
    (made / "costs.py").write_text(
        "def text(p, r):\n    return 'x'\ndef raises(p, r):\n    raise ValueError('no')\ndef cost(p, r):\n    return 2.5\n"
    )
    return made


def test_figures_and_files(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", str(folder / "model"), str(folder / "test.jsonl"), "-o", str(tmp_path / "scores"), "--json"]
    assert main([*words, "--metrics", f"accuracy,perplexity,{folder / 'costs.py'}:cost", "--limit", "4"]) == 0
    printed = json.loads(capsys.readouterr().out)
    lines = [json.loads(line) for line in (tmp_path / "scores" / "predictions.jsonl").read_text().splitlines()]
    assert [line["references"] for line in lines] == [[row["label"]] for row in ROWS[:4]]
    assert {line["output"] for line in lines} <= {"happy", "sad"}
    assert printed["metrics"]["accuracy"] == sum(line["score"] for line in lines) / 4
    assert (printed["metrics"]["cost"], printed["num_rows"]) == (2.5, 4)
    kept = json.loads((tmp_path / "scores" / "metrics.json").read_text())
    assert kept["metrics"] == printed["metrics"]
    assert main(words) == 2
    assert "predictions.jsonl is there already" in capsys.readouterr().err
    assert main([*words, "--overwrite"]) == 0


def test_rows_a_data_set_and_a_file_say_the_same(folder: Path) -> None:
    from datasets import ClassLabel, Dataset

    by_file = tunesmith.evaluate_model(folder / "model", folder / "test.jsonl", metric_type="accuracy, f1")
    numbered = Dataset.from_list(ROWS).cast_column("label", ClassLabel(names=["happy", "sad"]))
    for rows in (ROWS, numbered, iter(ROWS)):
        assert tunesmith.evaluate_model(folder / "model", rows, metric_type=["accuracy", "f1"]) == by_file  # type: ignore[arg-type]
    renamed = [{"phrase": row["text"], "label": row["label"]} for row in ROWS]
    assert tunesmith.evaluate(folder / "model", renamed, map_columns={"phrase": "text"}, metrics=["accuracy", "f1"]).metrics == by_file


def test_the_room_can_be_called_like_the_function(folder: Path) -> None:
    """Once a module of the room is imported, ``tunesmith.evaluate`` is the room."""
    import tunesmith.evaluate.evaluation

    assert tunesmith.evaluate.evaluation.Evaluation  # type: ignore[attr-defined]
    assert tunesmith.evaluate(folder / "model", ROWS, limit=2, metrics=["accuracy"]).num_rows == 2


def test_the_rows_that_a_run_held_out(folder: Path, tmp_path: Path) -> None:
    from tunesmith.evaluate.test_set import read_test_set

    (tmp_path / "held_out.jsonl").write_text('{"text": "a", "label": "sad"}\n')
    assert [dict(row) for row in read_test_set(None, tmp_path)] == [{"text": "a", "label": "sad"}]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["test.jsonl", "--metrics", "acuracy"], "Did you mean 'accuracy'"),
        (["test.jsonl", "--metrics", "span_f1"], "span_f1 needs tagged spans"),
        (["test.jsonl", "--metrics", "costs.py:costs"], "no function 'costs'"),
        (["test.jsonl", "--metrics", "nowhere.py:f"], "there is no file nowhere.py"),
        (["test.jsonl", "--metrics", "costs.py:text"], "returned text: 'x'"),
        (["test.jsonl", "--metrics", "costs.py:raises"], "raised ValueError: no"),
        (["empty.jsonl"], "empty.jsonl"),
        (["bad.jsonl"], "bad.jsonl: line 2"),
        (["nowhere.jsonl"], "nowhere.jsonl"),
        (["asked.jsonl"], "column 'label' is missing or empty"),
        (["test.jsonl", "--reference_column", "gold"], "column 'gold' is missing or empty"),
        (["other.jsonl"], "no value for text"),
        (["test.jsonl", "--map_columns", "txt=text"], "there is no column 'txt'"),
        (["test.jsonl", "--text_template", "{text} {label}"], "--text_template has no effect"),
        (["test.jsonl", "-o", "test.jsonl"], "test.jsonl is a file"),
        ([], "held no rows out of its training"),
        (["--benchmarks", "x", "--include_path", "nowhere"], "is no folder"),
        (["test.jsonl", "--limit", "0"], "--limit"),
    ],
)
def test_one_line_for_a_mistake(
    words: list[str], said: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    assert main(["evaluate", "model", *words]) == 2
    errors: Any = [line for line in capsys.readouterr().err.splitlines() if line.startswith("tunesmith: error:")]
    assert len(errors) == 1
    assert said in errors[0]


def test_a_model_that_is_not_there(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(folder / "nowhere"), str(folder / "test.jsonl")]) == 2
    assert "nowhere" in capsys.readouterr().err
