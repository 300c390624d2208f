"""What users get wrong about schemas and lists of labels: one line on stderr, exit status 2, nothing left behind."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tiny_encoders import save_tiny_encoder
from tunesmith.cli.main import main
from tunesmith.data.task_file import TaskRecord, write_task

pytestmark = pytest.mark.integration

SLOTS = [{"text": f"two teas to table {n}", "json": {"item": "tea", "table": n}} for n in range(20)]
TEXTS = [{"text": f"two teas to table {n}", "json": "tea" if n == 3 else '{"item": "tea"}'} for n in range(20)]
LISTS = [{"text": f"row {n}", "label": ["even", "small"] if n % 2 == 0 else ["odd"]} for n in range(20)]
MANY = [{"text": f"row {n}", "label": [f"text {n}", f"text {n + 1}"]} for n in range(1100)]
SCHEMAS: dict[str, Any] = {
    "fine": {"type": "object", "properties": {"item": {"type": "string"}, "table": {"type": "integer"}}},
    "not": {"type": "object", "not": {"required": ["price"]}},
    "if": {"type": "object", "properties": {"item": {"type": "string"}}, "if": {"required": ["item"]}, "then": {"required": ["table"]}},
    "unique": {"type": "array", "uniqueItems": True, "items": {"type": "string"}},
    "contains": {"type": "array", "contains": {"const": 1}},
    "one of": {"oneOf": [{"type": "integer"}, {"type": "number"}]},
    "remote": {"$ref": "https://example.org/order.json"},
    "look around": {"type": "string", "pattern": "(?!tea)coffee"},
    "format": {"type": "string", "format": "postcode"},
    "kind": {"type": "text"},
    "impossible": {"type": "string", "minLength": 5, "maxLength": 2},
    "empty": {"enum": []},
    "narrow": {"type": "object", "properties": {"item": {"enum": ["coffee"]}, "table": {"type": "integer"}}},
    "names": {"item": "tea", "table": 1},
    "list": ["item", "table"],
}

#: rows, options of finetune, words of the message
TRAINING: dict[str, tuple[list[dict[str, Any]], list[str], str]] = {
    "no schema file": (SLOTS, ["--answer_schema", "nowhere.json"], "--answer_schema nowhere.json can't be read"),
    "a schema that is no JSON": (SLOTS, ["--answer_schema", "rows.jsonl"], "--answer_schema rows.jsonl can't be read"),
    "an example in place of a schema": (SLOTS, ["--answer_schema", "names.json"], "--answer_schema names.json is no JSON schema"),
    "a list in place of a schema": (SLOTS, ["--answer_schema", "list.json"], "--answer_schema list.json is no JSON schema"),
    "a keyword that can't be checked": (SLOTS, ["--answer_schema", "not.json"], "the keyword 'not' can't be checked"),
    "two of them": (SLOTS, ["--answer_schema", "if.json"], "the keywords 'if', 'then' can't be checked"),
    "branches that overlap": (SLOTS, ["--answer_schema", "one of.json"], "oneOf constraints are not supported"),
    "a schema elsewhere": (SLOTS, ["--answer_schema", "remote.json"], "example.org/order.json' is not present"),
    "rows that don't fit": (SLOTS, ["--answer_schema", "narrow.json"], "row 1: the answer doesn't fit --answer_schema narrow.json at item"),
    "an answer that is no JSON": (TEXTS, [], "row 4: the answer in 'json' is no JSON: 'tea'"),
    "a schema for lists of labels": (LISTS, ["--answer_schema", "fine.json"], "--answer_schema has no effect"),
    "weights of listed labels": (LISTS, ["--class_weights", "balanced"], "Add --head"),
    "lists of anything": (MANY, [], "lists of 1,101 different texts"),
}
_ASK = ["generate", "-m", "orders", "a tea", "--answer_schema"]
#: command line, words of the message
ASKING: dict[str, tuple[list[str], str]] = {
    "both": ([*_ASK, "fine.json", "--no-constrain"], "Give one of them"),
    "nothing there": ([*_ASK, "nowhere.json"], "--answer_schema nowhere.json can't be read"),
    "a folder": ([*_ASK, "orders"], "--answer_schema orders can't be read"),
    "unique items": ([*_ASK, "unique.json"], "the keyword 'uniqueItems' can't be checked"),
    "contains": ([*_ASK, "contains.json"], "the keyword 'contains' can't be checked"),
    "looking around": ([*_ASK, "look around.json"], "the keyword 'pattern' has '(?!tea)coffee'"),
    "an unknown format": ([*_ASK, "format.json"], "Unknown format: postcode"),
    "an unknown type": ([*_ASK, "kind.json"], "Invalid type: text"),
    "nothing fits": ([*_ASK, "impossible.json"], "minLength (5) is greater than maxLength (2)"),
    "no value is allowed": ([*_ASK, "empty.json"], "Unsatisfiable schema"),
    "no truth value": (["generate", "-m", "orders", "a tea", "--constrain=perhaps"], "--constrain is 'perhaps'"),
    "a schema for a head": (["generate", "-m", "head", "a tea", "--answer_schema", "fine.json"], "writes no text that could fit a schema"),
    "a head let free": (["generate", "-m", "head", "a tea", "--no-constrain"], "writes no text that could fit a schema"),
    "a spoilt task.json": (["generate", "-m", "spoilt", "a tea"], "the schema in task.json: the keyword 'not'"),
    "a schema that is none": (["generate", "-m", "none", "a tea"], "the schema in task.json is no JSON schema"),
    "evaluating a spoilt one": (["evaluate", "spoilt", "rows.jsonl"], "Mend it there, or use --no-constrain"),
    "benchmarks let free": (
        ["evaluate", "-m", "orders", "--benchmarks", "x", "--no-constrain"],
        "--constrain has no effect with --benchmarks",
    ),
    "labels for lists": (["evaluate", "-m", "lists", "--data_files", "lists.jsonl", "--labels", "even,odd"], "was trained to list labels"),
    "a head evaluated freely": (["evaluate", "head", "rows.jsonl", "--no-constrain"], "writes no text that could fit a schema"),
    "a reference that is no JSON": (["evaluate", "orders", "texts.jsonl", "--max_new_tokens", "2"], "a reference is no JSON: 'tea'"),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Path:
    """A folder of models that say what they were trained for."""
    folder = tmp_path_factory.mktemp("models")
    labels = ("even", "odd", "small")
    tasks = {
        "orders": TaskRecord("extraction", schema=SCHEMAS["fine"], label_column="json"),
        "spoilt": TaskRecord("extraction", schema=SCHEMAS["not"], label_column="json"),
        "none": TaskRecord("extraction", schema=SCHEMAS["list"], label_column="json"),
        "lists": TaskRecord("text-classification", labels=labels, multi_label=True, label_column="label"),
    }
    for name, task in tasks.items():
        shutil.copytree(tiny_folder, folder / name)
        write_task(folder / name, task)
    save_tiny_encoder("bert", folder / "head")
    write_task(folder / "head", TaskRecord("text-classification", head=True, labels=labels, text_columns=("text",), label_column="json"))
    return folder


@pytest.fixture
def place(tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with models, schemas and rows, and its own cache."""
    work = tmp_path / "work"
    work.mkdir()
    for model in models.iterdir():
        (work / model.name).symlink_to(model)
    for name, schema in SCHEMAS.items():
        (work / f"{name}.json").write_text(json.dumps(schema))
    for name, rows in (("rows", SLOTS), ("texts", TEXTS), ("lists", LISTS)):
        (work / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.chdir(work)
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    return work


def check(status: int, said: str, words: str) -> None:
    errors = [line for line in said.splitlines() if line.startswith("tunesmith: error:")]
    assert status == 2, said
    assert len(errors) == 1, said
    assert words in errors[0]
    assert "Traceback" not in said
    assert "x-guidance" not in said, "the schema as we compile it is nobody's business"


@pytest.mark.parametrize("name", TRAINING)
def test_training(name: str, place: Path, tiny_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows, more, words = TRAINING[name]
    (place / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    status = main(["finetune", "data.jsonl", "-m", str(tiny_folder), "--max_steps", "2", "-o", "out", *more])
    check(status, capsys.readouterr().err, words)
    assert not (place / "out").exists()


@pytest.mark.parametrize("name", ASKING)
def test_asking(name: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, words = ASKING[name]
    status = main([*arguments, "-o", "out"])
    captured = capsys.readouterr()
    check(status, captured.err, words)
    assert not captured.out
    assert not (place / "out").exists()
