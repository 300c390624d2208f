"""Keys of content, and a store that shows whole entries only."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from datasets import Dataset, concatenate_datasets

from tiny_models import tiny_tokenizer
from tunesmith.data import cache
from tunesmith.data.cache import Store, content_hash, tokenizer_hash
from tunesmith.data.provenance import add_provenance
from tunesmith.errors import OutputError


def rows(*texts: str | None) -> Dataset:
    return Dataset.from_dict({"text": list(texts), "words": [(text or "").split() for text in texts]})


def test_the_hash_is_of_the_content_not_of_the_way_there() -> None:
    whole = rows("a b", None, "c", "d e")
    same = [
        rows(None, "c"),
        whole.select(range(1, 3)),
        rows("c", None).select([1, 0]),
        concatenate_datasets([rows(None), rows("c")]),
        add_provenance(rows(None, "c"), "file", all_names=["file"]),
    ]
    assert len({content_hash(data) for data in same}) == 1


def test_the_hash_differs_with_values_order_columns_and_types() -> None:
    others = [
        rows("a", "b"),
        rows("b", "a"),
        rows("a", None),
        rows("ab", ""),
        rows("a", "b").rename_column("text", "phrase"),
        Dataset.from_dict({"text": ["1"]}),
        Dataset.from_dict({"text": [1]}),
    ]
    assert len({content_hash(data) for data in others}) == len(others)


def test_a_tokenizers_hash_is_not_changed_by_using_it() -> None:
    tokenizer = tiny_tokenizer()
    before = tokenizer_hash(tokenizer)
    tokenizer(["a", "bc"], padding=True, truncation=True, max_length=4)
    assert tokenizer_hash(tokenizer) == before == tokenizer_hash(tiny_tokenizer())
    assert tokenizer_hash(tiny_tokenizer(adds_bos=True)) != before


def filled(store: Store, key: str, size: int = 10) -> Path:
    with store.writing() as temporary:
        finished = temporary / "finished"
        finished.mkdir()
        (finished / "rows.arrow").write_bytes(b"x" * size)
        return store.keep(finished, key)


def test_entries_are_found_by_their_key() -> None:
    store = Store("tokenized")
    assert store.find("a") is None
    assert store.find("a") is None
    entry = filled(store, "a")
    assert store.find("a") == entry
    assert [path.name for path in store.folder.iterdir()] == ["a"]


def test_an_entry_that_another_process_kept_meanwhile_stays() -> None:
    store = Store("tokenized")
    first = filled(store, "a", 10)
    assert filled(store, "a", 20) == first
    assert (first / "rows.arrow").stat().st_size == 10


def test_the_longest_unused_entries_go_when_there_is_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "MOST_BYTES", 25)
    store = Store("tokenized")
    for age, key in enumerate(("a", "b")):
        os.utime(filled(store, key), (1000 + age, 1000 + age))
    store.find("a")
    filled(store, "c")
    assert sorted(path.name for path in store.folder.iterdir()) == ["a", "c"]


def test_a_cache_folder_that_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "file"))
    with pytest.raises(OutputError, match="Set TUNESMITH_CACHE to a folder that can be written"), Store("tokenized").writing():
        pass
