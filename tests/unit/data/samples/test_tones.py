"""The tones sample: as many messages as promised, balanced, and each of them written for itself."""

from __future__ import annotations

import itertools
import re
from collections import Counter

import pytest

from tunesmith.data.samples import sample_rows
from tunesmith.data.samples.tones import TONES


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    return sample_rows("tones")


def words(phrase: str) -> list[str]:
    return re.findall(r"[a-z0-9']+", phrase.lower())


def shingles(phrase: str) -> set[tuple[str, ...]]:
    tokens = words(phrase)
    return {tuple(tokens[start : start + 3]) for start in range(max(1, len(tokens) - 2))}


def test_six_tones_with_as_many_messages_each(rows: list[dict[str, str]]) -> None:
    assert Counter(row["tone"] for row in rows) == dict.fromkeys(TONES, 80)


def test_rows_have_exactly_the_columns_of_the_documented_template(rows: list[dict[str, str]]) -> None:
    assert {tuple(row) for row in rows} == {("phrase", "tone")}
    assert all(row["phrase"] == row["phrase"].strip() and "\n" not in row["phrase"] for row in rows)


def test_lengths_vary_within_three_to_forty_five_words(rows: list[dict[str, str]]) -> None:
    lengths = [len(row["phrase"].split()) for row in rows]
    assert min(lengths) == 3
    assert 40 <= max(lengths) <= 45


def test_no_two_messages_are_near_duplicates(rows: list[dict[str, str]]) -> None:
    sets = [(row["phrase"], shingles(row["phrase"])) for row in rows]
    near = [(a, b) for (a, left), (b, right) in itertools.combinations(sets, 2) if len(left & right) / len(left | right) >= 0.2]
    assert near == []


def test_no_opening_is_a_template(rows: list[dict[str, str]]) -> None:
    openings = Counter(tuple(words(row["phrase"])[:2]) for row in rows)
    assert max(openings.values()) <= 8


def test_the_obvious_word_does_not_give_the_tone_away(rows: list[dict[str, str]]) -> None:
    grateful = [row["phrase"].lower() for row in rows if row["tone"] == "grateful"]
    apologetic = [row["phrase"].lower() for row in rows if row["tone"] == "apologetic"]
    assert sum("thank" in phrase for phrase in grateful) < len(grateful) / 2
    assert sum("sorry" in phrase or "apolog" in phrase for phrase in apologetic) < len(apologetic) / 2


def test_every_slice_has_all_tones(rows: list[dict[str, str]]) -> None:
    for start in range(0, len(rows), 80):
        assert {row["tone"] for row in rows[start : start + 80]} == set(TONES)
