"""How much the rows differ: distinct n-grams (J. Li et al., "A Diversity-Promoting Objective Function", 2016, section 4)."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

from tunesmith.data.doctor.checks import Check, Context, Row
from tunesmith.data.doctor.findings import Finding

#: Rows that the share is worked out over, chosen evenly, so that it means the same for small and large data; letters of each.
SAMPLE_ROWS, SAMPLE_LETTERS = 20_000, 1000
#: Less than this share of different pairs of words, over at least this many, is the same text over and over.
LEAST_DISTINCT, FEWEST_PAIRS = 0.05, 1000


class Diversity(Check):
    """Share of words, and of pairs of words, that are different."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._sample: list[str] = []
        self._random = random.Random(0)
        self._num_rows = 0
        self._distinct: dict[str, float] = {}

    def see(self, row: Row) -> Iterable[Finding]:
        """Keep a row with the probability that makes all rows equally likely to be kept (reservoir sampling)."""
        self._num_rows += 1
        if len(self._sample) < SAMPLE_ROWS:
            self._sample.append(row.asked[:SAMPLE_LETTERS])
        elif (place := self._random.randrange(self._num_rows)) < SAMPLE_ROWS:
            self._sample[place] = row.asked[:SAMPLE_LETTERS]
        return ()

    def finish(self) -> Iterable[Finding]:
        """Return whether the rows say the same over and over."""
        split = [text.casefold().split() for text in self._sample]
        self._sample = []
        pairs = [pair for words in split for pair in pairwise(words)]
        words = [word for row in split for word in row]
        self._distinct = {
            "distinct_1": round(len(set(words)) / len(words), 4) if words else 0.0,
            "distinct_2": round(len(set(pairs)) / len(pairs), 4) if pairs else 0.0,
        }
        if len(pairs) >= FEWEST_PAIRS and self._distinct["distinct_2"] < LEAST_DISTINCT:
            message = f"{self._distinct['distinct_2']:.1%} of the pairs of words are different: the rows say the same over and over"
            yield Finding("low_diversity", "note", message, "Add rows that differ")

    def figures(self) -> Mapping[str, Any]:
        """Return distinct-1 and distinct-2 of the prompts."""
        return self._distinct
