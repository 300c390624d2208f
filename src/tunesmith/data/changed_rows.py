"""Rows with another text in the place of their own: which text of a row that is, what must stay in it, and which kind of change it gets."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tunesmith.data.doctor.checks import text_hash
from tunesmith.data.doctor.roles import Roles
from tunesmith.data.placeholders import as_text
from tunesmith.data.rows_of_files import PlacedRow
from tunesmith.data.variations import Variation, words_of
from tunesmith.errors import DataError, UsageError

#: Marks rows that were made; rows of the source have none.
MARK = "augmented"
PARAPHRASE = "paraphrase"
#: Tries to make a text that isn't there yet.
TRIES = 5
#: A paraphrase has between these shares of the letters of what it says again.
SHORTEST, LONGEST = 0.4, 2.5

#: Texts and a seed to as many paraphrases.
Paraphrase = Callable[[Sequence[str], int], Sequence[str]]


class Changer:
    """Finds the text of a row that may be changed, and puts another in its place."""

    def __init__(self, roles: Roles) -> None:
        form = roles.form
        assert form is not None
        if form.name == "text" or form.task == "token-classification":
            what = "plain text is learnt as it stands" if form.name == "text" else "tags count words and letters"
            raise UsageError(f"rows of the format {form.name} can't be augmented: {what}", fix="Augment rows with a prompt and an answer")
        self._roles, self._form = roles, form
        self._column = form.column("prompt") or form.column("first") or form.column("messages") or form.column("conversations") or ""

    def text(self, row: PlacedRow) -> str:
        """Return the text that may be changed: the prompt's column, or what the user says last."""
        if not self._form.is_conversation:
            return as_text(row.values.get(self._column))
        turns = row.values.get(self._column)
        at = self._last_user(turns)
        return "" if at is None else as_text(turns[at].get("content", turns[at].get("value")))  # type: ignore[index]

    def _last_user(self, turns: Any) -> int | None:
        if not isinstance(turns, (list, tuple)):
            return None
        users = [
            at for at, turn in enumerate(turns) if isinstance(turn, Mapping) and turn.get("role", turn.get("from")) in ("user", "human")
        ]
        return users[-1] if users else None

    def kept(self, row: PlacedRow) -> frozenset[str]:
        """Return the words that must stay: those that the answer repeats.

        Raises:
            DataError: for a conversation that is none.
        """
        try:
            return words_of(self._roles.read(row.values)[1] or "")
        except DataError as error:
            raise DataError(error.message, file=row.place, fix=error.fix) from error

    def changed(self, row: PlacedRow, text: str, kind: str) -> dict[str, Any]:
        """Return the row with another text, marked."""
        if not self._form.is_conversation:
            return {**row.values, self._column: text, MARK: kind}
        turns = [dict(turn) for turn in row.values[self._column]]
        at = self._last_user(turns)
        assert at is not None
        turns[at]["content" if "content" in turns[at] else "value"] = text
        return {**row.values, self._column: turns, MARK: kind}


class Maker:
    """Makes variations of rows, each text once."""

    def __init__(
        self,
        changer: Changer,
        variations: Mapping[str, Variation | None],
        paraphrase: Paraphrase | None,
        num_copies: int,
        seed: int,
        taken: set[int],
    ) -> None:
        self._changer, self._variations, self._paraphrase = changer, variations, paraphrase
        self._num_copies, self._seed, self._taken = num_copies, seed, taken
        self.made: Counter[str] = Counter()
        self.num_failed = 0

    def extended(self, batch: Sequence[PlacedRow], first: int) -> Iterator[Mapping[str, Any]]:
        """Yield rows, each followed by its variations.

        Args:
            batch: some rows.
            first: how many came before; together with the seed it decides what is made.
        """
        texts = [self._changer.text(row) for row in batch]
        plans = [self._plan(first + at) for at in range(len(batch))]
        said = self._said_again(texts, plans, first)
        for at, (row, text, plan) in enumerate(zip(batch, texts, plans, strict=True)):
            yield row.values
            kept = self._changer.kept(row)
            for copy, kind in enumerate(plan):
                other = said.get((at, copy)) if kind == PARAPHRASE else self._varied(text, kind, kept, f"{self._seed}/{first + at}/{copy}")
                lost = kind == PARAPHRASE and other is not None and not kept & words_of(text) <= words_of(other)
                if other is None or lost or not self._is_new(other):
                    self.num_failed += 1
                    continue
                self.made[kind] += 1
                yield self._changer.changed(row, other, kind)

    def _plan(self, number: int) -> list[str]:
        """Return the kind of each copy of a row."""
        chance = random.Random(f"{self._seed}/{number}")
        return [chance.choice(list(self._variations)) for _ in range(self._num_copies)]

    def _varied(self, text: str, kind: str, kept: frozenset[str], seed: str) -> str | None:
        vary = self._variations[kind]
        assert vary is not None
        chance = random.Random(seed)
        for _ in range(TRIES):
            other = vary(text, chance, kept)
            if other and other.strip() and text_hash(other) not in self._taken:
                return other
        return None

    def _is_new(self, text: str) -> bool:
        key = text_hash(text)
        if key in self._taken:
            return False
        self._taken.add(key)
        return True

    def _said_again(self, texts: Sequence[str], plans: Sequence[Sequence[str]], first: int) -> dict[tuple[int, int], str | None]:
        """Return the paraphrases that are asked for, (row, copy) -> text; None for one that is no paraphrase."""
        wanted = [(at, copy) for at, plan in enumerate(plans) for copy, kind in enumerate(plan) if kind == PARAPHRASE and texts[at].strip()]
        if not wanted or self._paraphrase is None:
            return {}
        answers = self._paraphrase([texts[at] for at, _ in wanted], self._seed + first)
        return {place: _usable(texts[place[0]], answer) for place, answer in zip(wanted, answers, strict=True)}


def _usable(text: str, answer: str) -> str | None:
    """Return a model's paraphrase as one line without quotes, None when its length tells that it is something else."""
    line = " ".join(answer.split()).strip("\"'“”")
    return line if SHORTEST * len(text) <= len(line) <= LONGEST * len(text) else None
