"""Where rows come from: files, folders, samples, the hub; which become training, validation and test rows."""

from __future__ import annotations

import gzip
import logging
import os
from pathlib import Path
from typing import Any

import pytest
from conftest_types import Write
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value

from tunesmith.data.provenance import data_columns, place_of
from tunesmith.data.sources import Splits, load_splits
from tunesmith.errors import DataError, UsageError

ROW = {"text": "a", "label": "x"}


def numbered(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [{"text": f"text {start + number}", "label": "ab"[number % 2]} for number in range(count)]


def rows_of(data: Dataset | None) -> list[dict[str, Any]]:
    assert data is not None
    return [dict(row) for row in data.select_columns(data_columns(data))]


def texts(data: Dataset | None) -> list[str]:
    return [row["text"] for row in rows_of(data)]


FILES: dict[str, Any] = {
    "rows.jsonl": [ROW, {"text": "b", "label": "y"}],
    "list.json": '\n [{"text": "a", "label": "x"},\n  {"text": "b", "label": "y"}]\n',
    "data.json": '{"data": [{"text": "a", "label": "x"}, {"text": "b", "label": "y"}]}',
    "spread.json": '{\n "version": 1,\n "rows": [{"text": "a", "label": "x"}, {"text": "b", "label": "y"}]\n}',
    "bom.jsonl": b'\xef\xbb\xbf{"text": "a", "label": "x"}\n{"text": "b", "label": "y"}\n',
    "bom-list.json": b'\xef\xbb\xbf[{"text": "a", "label": "x"}, {"text": "b", "label": "y"}]',
    "crlf.jsonl": b'{"text": "a", "label": "x"}\r\n{"text": "b", "label": "y"}\r\n',
    "blank-lines.jsonl": b'\n{"text": "a", "label": "x"}\n\n\n{"text": "b", "label": "y"}\n\n',
    "table.csv": "text,label\na,x\nb,y\n",
    "bom.csv": b"\xef\xbb\xbftext,label\r\na,x\r\nb,y\r\n",
    "semicolons.csv": "text;label\na;x\nb;y\n",
    "blanks.csv": "text, label\na,x\nb,y\n",
    "table.tsv": "text\tlabel\na\tx\nb\ty\n",
    "packed.jsonl.gz": gzip.compress(b'{"text": "a", "label": "x"}\n{"text": "b", "label": "y"}\n'),
}


@pytest.mark.parametrize("name", FILES)
def test_files_of_all_kinds_give_the_same_rows(name: str, write: Write) -> None:
    path = write(name, FILES[name])
    splits = load_splits(data_name=str(path))
    assert rows_of(splits.train) == [ROW, {"text": "b", "label": "y"}]
    assert [place_of(splits.train, index) for index in (0, 1)] == [(str(path), 1), (str(path), 2)]
    assert (splits.validation, splits.test, splits.files) == (None, None, (str(path),))


def test_parquet_and_class_labels_by_name(tmp_path: Path) -> None:
    features = Features({"label": ClassLabel(names=["neg", "pos"]), "text": Value("string")})
    Dataset.from_dict({"label": [1, 0, -1], "text": ["a", "b", "c"]}, features=features).to_parquet(tmp_path / "rows.parquet")
    train = load_splits(data_name=str(tmp_path / "rows.parquet")).train
    assert train["label"][:] == ["pos", "neg", None]
    assert set(data_columns(train)) == {"label", "text"}


def test_lists_of_class_labels_by_name(tmp_path: Path) -> None:
    features = Features({"tokens": List(Value("string")), "tags": List(ClassLabel(names=["O", "B"]))})
    rows = {"tokens": [["a"], [], ["b", "c"], ["d"]], "tags": [[1], [], [0, 1], None]}
    Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "rows.parquet")
    assert load_splits(data_name=str(tmp_path / "rows.parquet")).train["tags"][:] == [["B"], [], ["O", "B"], []]


def test_what_datasets_saved(tmp_path: Path) -> None:
    data = Dataset.from_list([ROW])
    DatasetDict({"train": data, "validation": data}).save_to_disk(tmp_path / "saved")
    splits = load_splits(data_name=str(tmp_path / "saved"))
    assert rows_of(splits.train) == rows_of(splits.validation) == [ROW]


def test_plain_text_is_read_line_by_line_without_blank_ones(write: Write) -> None:
    path = write("story.txt", "one\n\n  \r\ntwo\n")
    train = load_splits(data_name=str(path)).train
    assert texts(train) == ["one", "two"]
    assert place_of(train, 1) == (str(path), 4)


@pytest.mark.parametrize(
    ("cell", "kept"), [("007", "007"), ("NA", "NA"), ("null", "null"), ("1.0", "1.0"), ("2020-01-01", "2020-01-01"), ("", "")]
)
def test_cells_of_a_table_stay_what_they_are(cell: str, kept: str, write: Write) -> None:
    assert load_splits(data_name=str(write("t.csv", f"text,label\na,{cell}\n"))).train["label"][:] == [kept]


def test_the_index_that_pandas_writes_is_no_error(write: Write) -> None:
    train = load_splits(data_name=str(write("t.csv", ",text,label\n0,a,x\n"))).train
    assert rows_of(train) == [{"unnamed 1": "0", **ROW}]


def test_texts_that_look_like_dates_stay_as_written(write: Write) -> None:
    dates = [{"text": "when?", "label": "2020-01-01"}, {"text": "and?", "label": "2021-02-03 10:00:00"}]
    assert rows_of(load_splits(data_name=str(write("d.jsonl", dates))).train) == dates


def test_a_column_that_is_empty_for_long(write: Write) -> None:
    filler = "x" * 2000
    rows = [{"text": filler, "label": None}] * 6000 + [{"text": "b", "label": "y"}]
    train = load_splits(data_name=str(write("late.jsonl", rows))).train
    assert (len(train), train["label"][-1]) == (6001, "y")


def test_mixed_values_in_a_column(write: Write) -> None:
    train = load_splits(data_name=str(write("m.jsonl", [{"text": "a", "label": 1}, {"text": "b", "label": "y"}]))).train
    assert [str(label) for label in train["label"]] == ["1", "y"]


def test_a_changed_file_is_read_anew_even_with_its_old_date(write: Write) -> None:
    path = write("rows.jsonl", [ROW])
    assert texts(load_splits(data_name=str(path)).train) == ["a"]
    before = path.stat()
    write("rows.jsonl", [{"text": "b", "label": "x"}])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert texts(load_splits(data_name=str(path)).train) == ["b"]


def test_the_second_reading_comes_from_the_cache(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("rows.jsonl", [ROW])
    load_splits(data_name=str(path))
    monkeypatch.setattr("tunesmith.data.reading._convert", lambda *_: pytest.fail("converted again"))
    assert rows_of(load_splits(data_name=str(path)).train) == [ROW]


def test_nothing_is_printed(write: Write, capfd: pytest.CaptureFixture[str]) -> None:
    write("fast.jsonl", [ROW])
    write("slow.jsonl", [{"text": "a", "label": "2020-01-01"}])
    with pytest.raises(DataError):
        load_splits(data_name=str(write("bad.jsonl", "{")))
    assert len(load_splits(data_files=["fast.jsonl", "slow.jsonl"]).train) == 2
    assert capfd.readouterr() == ("", "")


@pytest.fixture
def folder(write: Write, tmp_path: Path) -> str:
    write("data/train.jsonl", numbered(20))
    write("data/dev.jsonl", numbered(3, 100))
    write("data/my-test.jsonl", numbered(4, 200))
    write("data/README.md", "about")
    write("data/LICENSE.txt", "terms")
    write("data/.hidden.jsonl", "not JSON")
    return str(tmp_path / "data")


def test_a_folder_gives_its_splits(folder: str) -> None:
    splits = load_splits(data_name=folder)
    assert (len(splits.train), texts(splits.validation)[0], texts(splits.test)[0]) == (20, "text 100", "text 200")
    assert [Path(file).name for file in splits.files] == ["train.jsonl", "dev.jsonl", "my-test.jsonl"]


@pytest.mark.parametrize(
    ("options", "train", "validation", "test"),
    [
        ({"train_split": "train[:5]"}, (0, 5), (100, 3), 4),
        ({"train_split": "train[80%:]"}, (16, 4), (100, 3), 4),
        ({"train_split": "train[:12]", "eval_split": "train[12:16]"}, (0, 12), (12, 4), 4),
        ({"eval_split": "dev[:2]"}, (0, 20), (100, 2), 4),
        ({"eval_split": "valid"}, (0, 20), (100, 3), 4),
        ({"eval_split": "test"}, (0, 20), (200, 4), None),
        ({"train_split": "train+test"}, (0, 24), (100, 3), None),
    ],
)
def test_splits_and_slices(
    folder: str, options: dict[str, Any], train: tuple[int, int], validation: tuple[int, int], test: int | None
) -> None:
    splits: Splits = load_splits(data_name=folder, **options)
    assert (texts(splits.train)[0], len(splits.train)) == (f"text {train[0]}", train[1])
    assert (texts(splits.validation)[0], len(texts(splits.validation))) == (f"text {validation[0]}", validation[1])
    assert (len(splits.test) if splits.test else None) == test


def test_validation_rows_leave_a_training_split_that_nobody_cut(folder: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        splits = load_splits(data_name=folder, eval_split="train[80%:]")
    assert not set(texts(splits.train)) & set(texts(splits.validation))
    assert "4 rows of --eval_split are left out of training" in caplog.text


def test_rows_on_both_sides_by_the_users_word_are_warned_of(folder: str, caplog: pytest.LogCaptureFixture) -> None:
    splits = load_splits(data_name=folder, train_split="train[:10]", eval_split="train[8:12]")
    assert len(splits.train) == 10
    assert "2 rows are both in --train_split and in --eval_split" in caplog.text


def test_max_samples_draws_from_the_whole_and_keeps_the_order(folder: str) -> None:
    drawn = texts(load_splits(data_name=folder, max_samples=6).train)
    numbers = [int(text.removeprefix("text ")) for text in drawn]
    assert numbers == sorted(numbers)
    assert max(numbers) > 6
    assert drawn == texts(load_splits(data_name=folder, max_samples=6).train)


def test_columns_are_renamed_old_to_new(folder: str) -> None:
    splits = load_splits(data_name=folder, map_columns={"text": "phrase"})
    assert data_columns(splits.train) == data_columns(splits.validation or splits.train) == ["phrase", "label"]


def test_files_by_list_pattern_builder_and_split(write: Write, tmp_path: Path) -> None:
    write("part-1.jsonl", numbered(2))
    write("part-2.jsonl", numbered(2, 2))
    write("odd.data", numbered(1, 9))
    wanted = [f"text {number}" for number in range(4)]
    assert texts(load_splits(data_files=["part-1.jsonl", "part-2.jsonl"]).train) == wanted
    both = load_splits(data_files="part-*.jsonl").train
    assert texts(both) == wanted
    assert place_of(both, 3) == ("part-2.jsonl", 2)
    assert texts(load_splits(data_name="json", data_files="odd.data").train) == ["text 9"]
    assert texts(load_splits(data_name=str(tmp_path), data_files="part-2.jsonl").train) == wanted[2:]
    by_split = load_splits(data_files={"train": "part-1.jsonl", "dev": ["part-2.jsonl"]})
    assert texts(by_split.validation) == wanted[2:]


def test_files_whose_numbers_are_text_elsewhere_are_joined(write: Write) -> None:
    write("a.jsonl", [{"text": "a", "label": 1}])
    write("b.jsonl", [{"text": "b", "label": "y"}])
    assert load_splits(data_files=["a.jsonl", "b.jsonl"]).train["label"][:] == ["1", "y"]


def test_files_with_other_columns_are_named(write: Write) -> None:
    write("a.jsonl", [ROW])
    write("b.jsonl", [{"question": "b", "answer": "y"}])
    with pytest.raises(DataError, match=r"b.jsonl: its columns \(question, answer\) are not those of a.jsonl \(text, label\)"):
        load_splits(data_files=["a.jsonl", "b.jsonl"])


def test_subsets_of_a_folder(write: Write, tmp_path: Path) -> None:
    write("all/easy/train.jsonl", numbered(2))
    write("all/hard/train.jsonl", numbered(3, 50))
    write("all/hard/valid.jsonl", numbered(1, 70))
    splits = load_splits(data_name="all", train_subset="easy", eval_subset="hard")
    assert (texts(splits.train)[0], texts(splits.validation)) == ("text 0", ["text 70"])
    with pytest.raises(DataError, match=r"all: there is no subset 'hart'; its folders: easy, hard. Did you mean 'hard'\?"):
        load_splits(data_name="all", train_subset="hart")


def test_built_in_samples() -> None:
    splits = load_splits(data_name="sample:tones", max_samples=5)
    assert data_columns(splits.train) == ["phrase", "tone"]
    assert splits.files == ()


def test_files_without_a_split_in_their_name_are_training_rows(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    write("loose/one.jsonl", numbered(2))
    write("loose/two.jsonl", numbered(2, 2))
    write("loose/NOTES.txt", "no rows")
    assert len(load_splits(data_name="loose").train) == 4
    write("loose/train.jsonl", numbered(1, 9))
    assert texts(load_splits(data_name="loose").train) == ["text 9"]
    assert "not used, because no split is in the name: one.jsonl, two.jsonl" in caplog.text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "no data is named"),
        ({"data_name": "json"}, "--data_name json says what the files are, but no files are named"),
        ({"data_name": "rows.jsonl", "data_files": "rows.jsonl"}, "is a file itself, so --data_files has no effect"),
        ({"data_name": "rows.jsonl", "max_samples": 0}, "--max_samples 0 leaves no row"),
        ({"data_name": "rows.jsonl", "map_columns": {"text": "label"}}, "would give 'text' and 'label' one name, 'label'"),
        ({"data_name": "rows.jsonl", "map_columns": {"text": "a", "label": "a"}}, "would give 'text' and 'label' one name, 'a'"),
        ({"data_name": "rows.jsonl", "train_subset": "en"}, "the subset 'en' has no effect: rows.jsonl has none"),
        ({"data_name": "sample:tones", "eval_subset": "en"}, "the subset 'en' has no effect: sample:tones has none"),
        ({"data_files": "rows.jsonl", "train_subset": "en"}, "the subset 'en' has no effect: a list of files has none"),
        ({"data_name": "rows.jsonl", "train_split": "train["}, "--train_split 'train\\[' is no split"),
        ({"data_name": "sample:ton"}, "unknown sample 'ton'"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], words: str, write: Write) -> None:
    write("rows.jsonl", [ROW])
    with pytest.raises(UsageError, match=words):
        load_splits(**options)
