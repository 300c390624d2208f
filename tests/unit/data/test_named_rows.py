"""The commands on data take ``sample:NAME`` and hub ids, as finetune does: which split each means, and where a finding stands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest_types import Write
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from tunesmith.cli.main import main
from tunesmith.data.named_rows import held_back_rows, is_named, named_splits, training_rows
from tunesmith.errors import DataError

FEATURES = Features({"text": Value("string"), "label": ClassLabel(names=["neg", "pos"])})


def rows(*texts: str) -> Dataset:
    return Dataset.from_dict({"text": list(texts), "label": [place % 2 for place in range(len(texts))]}, features=FEATURES)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A hub whose data set has the splits that stand in ``splits``; what was asked of it is noted."""
    found: dict[str, Any] = {"splits": {"train": rows("a cat", "a dog", "a cat", "a bird"), "dev": rows("a cow"), "test": rows("a dog")}}

    def load_dataset(name: str, *_: Any, **options: Any) -> DatasetDict:
        found["asked"] = (name, options["token"])
        return DatasetDict(found["splits"])

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    return found


def said(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    capsys.readouterr()
    status = main(["data", *words])
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def test_what_a_name_means(write: Write, tmp_path: Path) -> None:
    write("plain.jsonl", [{"text": "a"}])
    write("owner/name", [{"text": "a"}])
    assert [is_named(name) for name in ("sample:tones", "owner/data", "data")] == [True, True, True]
    assert [is_named(name) for name in ("plain.jsonl", "none.jsonl", "./data", "a/b/c", "owner/name", str(tmp_path))] == [False] * 6


def test_which_split(hub: dict[str, Any]) -> None:
    assert sorted(named_splits("owner/name")) == ["test", "train", "validation"]
    assert next(iter(training_rows("owner/name"))) == {"text": "a cat", "label": "neg"}
    assert str(held_back_rows("owner/name")) == "owner/name (test)"
    del hub["splits"]["test"]
    assert str(held_back_rows("owner/name")) == "owner/name (dev)"
    hub["splits"] = {"all": rows("a cat")}
    assert str(training_rows("owner/name")) == str(held_back_rows("owner/name")) == "owner/name (all)"
    hub["splits"] = {"one": rows("a"), "two": rows("b")}
    for choose in (training_rows, held_back_rows):
        with pytest.raises(DataError, match="no split is called 'train'; there is: one, two"):
            choose("owner/name")


def test_check_looks_at_all_splits_of_the_hub(hub: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = said(capsys, "check", "owner/name", "--token", "key", "--json")
    found = {(one["check"], one["file"], one["row"]) for one in json.loads(out)["findings"]}
    assert {("duplicate_row", "owner/name (train)", 3), ("leaked_row", "owner/name (test)", 1)} <= found
    assert (status, hub["asked"]) == (2, ("owner/name", "key"))


def test_test_files_may_be_on_the_hub(hub: dict[str, Any], write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    path = write("mine.jsonl", [{"text": text, "label": "x"} for text in ("a dog", "a fox")])
    _, out, _ = said(capsys, "clean", str(path), "--test_files", "owner/name", "-o", "clean.jsonl")
    assert "1 of 2 rows kept" in out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("split", "sample:tones", "-o", "parts"), "train           384 rows (80.0%)  parts/train.jsonl"),
        (("clean", "owner/name", "-o", "clean.jsonl"), "rows kept: clean.jsonl"),
        (("convert", "owner/name", "-o", "made.csv", "--to", "messages"), "4 rows, text-label to messages: made.csv"),
        (("augment", "owner/name", "-o", "more.jsonl", "--test_files", "sample:tones"), "4 rows and"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_rows_written_anew(
    words: tuple[str, ...], expected: str, hub: dict[str, Any], write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    write("here.jsonl", [{"text": "a"}])  # which also makes a folder of its own the working folder
    status, out, error = said(capsys, *words)
    assert (status, error.count("error")) == (0, 0), error
    assert expected in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("check", "sample:tonse"), "Did you mean 'tones'"),
        (("check", "sample:tones", "sample:tones"), "sample:tones is given twice"),
        (("check", "none.jsonl"), "none.jsonl: there is no such file"),
        (("split", "two/splits", "-o", "parts"), "no split is called 'train'"),
        (("preview", "sample:tones", "here.jsonl"), "can't be shown together"),
        (("augment", "folder", "-o", "more.jsonl"), "it is a folder, not a file"),
    ],
)
def test_what_is_refused(
    words: tuple[str, ...], message: str, hub: dict[str, Any], write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    write("here.jsonl", [{"text": "a"}])
    write("folder/x.jsonl", [{"text": "a"}])
    hub["splits"] = {"one": rows("a"), "two": rows("b")}
    status, out, error = said(capsys, *words)
    assert (status, out) == (2, "")
    assert message in error
    assert error.count("\n") == 1
