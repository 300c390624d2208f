"""Data sets of the hub: their splits, and one line for each way in which they can't be read."""

from __future__ import annotations

import re
from typing import Any

import pytest
from conftest_types import Write
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from datasets.exceptions import DatasetNotFoundError

from tunesmith.data.provenance import place_of
from tunesmith.data.sources import load_splits
from tunesmith.errors import DataError


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    """A hub with one data set; what was asked of it is noted."""
    asked: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    features = Features({"text": Value("string"), "label": ClassLabel(names=["neg", "pos"])})
    rows = Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features=features)

    def load_dataset(*names: Any, **options: Any) -> DatasetDict:
        asked.append((names, options))
        return DatasetDict({"train": rows, "test": rows.select([1])})

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    return asked


def test_splits_come_with_names_for_labels_and_places(hub: list[Any]) -> None:
    splits = load_splits(data_name="owner/name", train_subset="en", train_split="train[:1]", token="key", revision="v1")
    assert splits.train["label"][:] == ["pos"]
    assert splits.test is not None
    assert splits.test["label"][:] == ["neg"]
    assert place_of(splits.test, 0) == ("owner/name (test)", 1)
    assert hub == [(("owner/name", "en"), {"data_files": None, "revision": "v1", "token": "key"})]


def test_another_subset_to_be_measured_on(hub: list[Any]) -> None:
    splits = load_splits(data_name="owner/name", train_subset="en", eval_subset="de", eval_split="test")
    assert [names for names, _ in hub] == [("owner/name", "en"), ("owner/name", "de")]
    assert (len(splits.train), splits.validation is not None) == (2, True)


@pytest.mark.parametrize(
    ("error", "pattern"),
    [
        (DatasetNotFoundError("Dataset doesn't exist on the Hub or cannot be accessed."), r"no data set of this name.*--token"),
        (ValueError("Config name is missing.\nPlease pick one among: ['en', 'de']"), r"several subsets.*\['en', 'de'\].*--train_subset"),
        (ConnectionError("Couldn't reach 'owner/name' on the Hub (LocalEntryNotFoundError)"), r"the hub can't be reached \(offline\)"),
        (RuntimeError("Dataset scripts are no longer supported"), r"can't be loaded: Dataset scripts are no longer supported"),
    ],
)
def test_what_keeps_a_data_set_from_being_read(error: Exception, pattern: str, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write("here.jsonl", [{"text": "a", "label": "b"}])

    def load_dataset(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    with pytest.raises(DataError) as caught:
        load_splits(data_name="owner/name")
    assert re.search(pattern, str(caught.value)), str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_data_set_without_a_training_split(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = Dataset.from_list([{"text": "a", "label": "b"}])
    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: DatasetDict({"test": rows}))
    assert len(load_splits(data_name="owner/name").train) == 1
    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: DatasetDict({"en": rows, "de": rows}))
    with pytest.raises(DataError, match=r"no split is called 'train'; there is: en, de. Name one: --train_split NAME"):
        load_splits(data_name="owner/name")
