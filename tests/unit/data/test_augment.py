"""Augmenting: answers stay, every made row is marked, nothing is there twice, validation and test files are refused."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest_types import Write
from doctor_rows import clean_rows

from tunesmith.data.augment import augment
from tunesmith.data.variations import FILLERS, VARIATIONS, synonyms, words_of
from tunesmith.errors import DataError, OutputError, UsageError

ASK = "Could you please show me the way, it's hard to find?"


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def made(write: Write, rows: list[dict[str, Any]], **options: Any) -> list[dict[str, Any]]:
    return rows_of(augment([write("train.jsonl", rows)], Path("more.jsonl"), overwrite=True, **options).output_path)


@pytest.mark.parametrize("kind", VARIATIONS)
def test_each_kind_marks_its_rows(kind: str, write: Write) -> None:
    source = [{"text": f"{row['text']}, please tell me the way.", "label": row["label"]} for row in clean_rows()]
    rows = made(write, source, kinds=[kind])
    new = [row for row in rows if "augmented" in row]
    assert [row for row in rows if "augmented" not in row] == source
    assert {row["augmented"] for row in new} == {kind}
    assert len(new) > 50
    assert len({row["text"] for row in rows}) == len(rows)
    # a row stands behind the one that it was made of, with its label
    assert all(rows[at - 1]["label"] == row["label"] for at, row in enumerate(rows) if "augmented" in row)


def test_the_seed_decides(write: Write) -> None:
    first, again, other = (made(write, clean_rows(), num_copies=2, seed=seed) for seed in (1, 1, 2))
    assert first == again != other


def test_words_of_the_answer_stay(write: Write) -> None:
    rows = made(
        write, [{"prompt": f"play something by Zaphod Beeblebrox {at}", "completion": "artist: Zaphod Beeblebrox"} for at in range(40)]
    )
    new = [row for row in rows if "augmented" in row]
    assert {row["augmented"] for row in new} >= {"typos", "casing", "punctuation"}
    assert all("Zaphod Beeblebrox" in row["prompt"] for row in new)


def test_the_last_user_turn_of_a_conversation_changes(write: Write) -> None:
    turns = [("user", "first thing"), ("assistant", "yes"), ("user", "where is the station"), ("assistant", "there")]
    source = [{"messages": [{"role": role, "content": f"{text} {at}"} for role, text in turns]} for at in range(10)]
    new = [row for row in made(write, source, kinds=["typos"]) if "augmented" in row]
    assert len(new) == 10
    for row, before in zip(new, source, strict=True):
        changed = [now != then for now, then in zip(row["messages"], before["messages"], strict=True)]
        assert changed == [False, False, True, False]


def test_synonyms_come_from_the_list(write: Write) -> None:
    write("words.json", json.dumps({"Red": ["crimson"], "house": ["home"]}))
    source = [{"text": f"the Red house number {at}", "label": "place"} for at in range(30)]
    rows = made(write, source, kinds=["synonyms"], synonyms_file=Path("words.json"))
    texts = {row["text"].rpartition(" number")[0] for row in rows if "augmented" in row}
    assert texts == {"the Crimson house", "the Red home"}
    write("words.csv", "red,crimson\nred,scarlet\n")
    rows = made(write, source, kinds=["synonyms"], synonyms_file=Path("words.csv"))
    assert {row["text"].split()[1] for row in rows if "augmented" in row} == {"Crimson", "Scarlet"}


def test_a_model_says_it_again(write: Write) -> None:
    seeds = []

    def paraphrase(texts: Sequence[str], seed: int) -> list[str]:
        seeds.append(seed)
        return [f'"In other words: {text}"' if at else "no" for at, text in enumerate(texts)]

    source = clean_rows(40)
    rows = made(write, source, kinds=["paraphrase"], paraphrase=paraphrase)
    new = [row["text"] for row in rows if "augmented" in row]
    # the first answer of each batch is too short to be one
    assert new == [f"In other words: {row['text']}" for at, row in enumerate(source) if at % 32]
    assert seeds == [0, 32]


def test_test_texts_are_never_made(write: Write) -> None:
    source = [{"text": "where is it", "label": "place"}, {"text": "who is it", "label": "time"}]
    test = write("held.jsonl", [{"text": row["text"] + end, "label": "place"} for row in source for end in (".", "!", " ?", " .")])
    result = augment([write("train.jsonl", source)], Path("more.jsonl"), kinds=["punctuation"], test_files=[test], num_copies=3)
    assert (result.made, result.num_failed) == ({}, 6)
    assert "6 could not be made" in result.words()[-1]


@pytest.mark.parametrize(
    ("name", "row", "options", "error", "words"),
    [
        ("test.jsonl", {"text": "a b", "label": "c"}, {}, UsageError, "holds test rows by its name"),
        ("my-dev.jsonl", {"text": "a b", "label": "c"}, {}, UsageError, "holds validation rows by its name"),
        ("data.jsonl", {"text": "plain text alone"}, {}, UsageError, "format text can't be augmented"),
        ("data.jsonl", {"tokens": ["a"], "tags": ["O"]}, {}, UsageError, "tags count words"),
        ("data.jsonl", {"text": "a b", "label": "c"}, {"kinds": ["typo"]}, UsageError, "Did you mean 'typos'"),
        ("data.jsonl", {"text": "a b", "label": "c"}, {"kinds": ["synonyms"]}, UsageError, "needs --synonyms_file"),
        ("data.jsonl", {"text": "a b", "label": "c"}, {"kinds": ["paraphrase"]}, UsageError, "needs --paraphrase_model"),
        ("data.jsonl", {"text": "a b", "label": "c", "augmented": "typos"}, {}, DataError, "made before"),
    ],
)
def test_what_cant_be_augmented(
    name: str, row: dict[str, Any], options: dict[str, Any], error: type[Exception], words: str, write: Write
) -> None:
    with pytest.raises(error, match=words):
        augment([write(name, [row] * 3)], Path("more.jsonl"), **options)
    assert not Path("more.jsonl").exists()


@pytest.mark.parametrize("content", ["[1, 2]", '{"a": []}', '{"a": 5}', "{oops", '{"a": [1]}'])
def test_a_list_of_synonyms_that_is_none(content: str, write: Write) -> None:
    write("words.json", content)
    with pytest.raises(DataError, match=r"words.json: the synonyms"):
        augment([write("train.jsonl", clean_rows())], Path("more.jsonl"), synonyms_file=Path("words.json"))


def test_the_source_is_not_overwritten(write: Write) -> None:
    path = write("train.jsonl", clean_rows())
    with pytest.raises(OutputError, match="would be overwritten"):
        augment([path], path, overwrite=True)


def test_no_variation_touches_what_carries_meaning() -> None:
    kept = words_of("show way")
    for seed in range(200):
        chance = random.Random(seed)
        for vary in VARIATIONS.values():
            changed = vary(ASK, chance, kept)
            assert changed is None or {"show", "way"} <= {word.strip(",.?!") for word in changed.split()}
    dropped = VARIATIONS["word_dropping"](ASK, random.Random(0), frozenset())
    assert dropped is not None
    assert {word.lower() for word in ASK.split()} - {word.lower() for word in dropped.split()} <= FILLERS
    assert VARIATIONS["word_dropping"]("do not stop it", random.Random(0), frozenset()) is None
    assert synonyms({"way": ["path"]})("the way", random.Random(0), frozenset({"way"})) is None
