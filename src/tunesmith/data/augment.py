"""More training rows from those there are: each a small change of one, with its answer and a mark that says how it was made."""

from __future__ import annotations

import csv
import json
import logging
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith.data.doctor.checks import text_hash
from tunesmith.data.doctor.roles import Roles
from tunesmith.data.folders import split_of
from tunesmith.data.named_rows import RowSource
from tunesmith.data.placeholders import as_text
from tunesmith.data.rows_of_files import PlacedRow, iterate_rows, roles_of_files
from tunesmith.data.variations import VARIATIONS, Variation, synonyms, words_of
from tunesmith.data.writing import check_output_file, writing_rows
from tunesmith.errors import DataError, UsageError, nearest

log = logging.getLogger(__name__)

#: Marks rows that were made; rows of the source have none.
MARK = "augmented"
PARAPHRASE = "paraphrase"
SYNONYMS = "synonyms"
#: Tries to make a text that isn't there yet.
TRIES = 5
#: A paraphrase has between these shares of the letters of what it says again.
SHORTEST, LONGEST = 0.4, 2.5
#: Rows paraphrased together.
BATCH_ROWS = 32

#: What a model is asked.
PARAPHRASE_PROMPT = "Say this in other words. Keep its meaning, names and numbers. Answer with the new sentence only.\n\n{text}"

#: Texts and a seed to as many paraphrases.
Paraphrase = Callable[[Sequence[str], int], Sequence[str]]


@dataclass(frozen=True)
class Augmented:
    """What augmenting made.

    Attributes:
        output_path: all rows, each followed by those that were made of it.
        num_rows: rows of the source.
        made: kind -> rows made.
        num_failed: variations that could not be made, because nothing in the text can be changed that way or the result was there already.
    """

    output_path: Path
    num_rows: int
    made: Mapping[str, int]
    num_failed: int

    def words(self) -> list[str]:
        """Return what was made, line by line."""
        made = ", ".join(f"{count:,} {kind}" for kind, count in self.made.items()) or "none"
        lines = [f"{self.num_rows:,} rows and {sum(self.made.values()):,} made of them: {self.output_path}", f"Made: {made}."]
        if self.num_failed:
            lines.append(f"{self.num_failed:,} could not be made: nothing to change that way, or the text was there already.")
        return lines


def augment(
    files: Sequence[RowSource],
    output_path: Path,
    *,
    kinds: Sequence[str] | None = None,
    num_copies: int = 1,
    synonyms_file: Path | None = None,
    paraphrase: Paraphrase | None = None,
    test_files: Sequence[RowSource] = (),
    map_columns: Mapping[str, str] | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> Augmented:
    """Write training rows and variations of them; the answer, and words of the prompt that the answer repeats, stay as they are.

    Args:
        files: training rows.
        output_path: all rows; those that were made have the column ``augmented``.
        kinds: names in ``VARIATIONS``, ``synonyms``, ``paraphrase``; by default all that are possible with what is given.
        num_copies: variations of each row, each of a kind drawn by chance.
        synonyms_file: JSON ``{"word": ["other", …]}``, or a table with two columns, a word and another a row.
        paraphrase: says texts in other words.
        test_files: texts that no variation may become.
        map_columns: old name -> new name, also in the output.
        seed: the same seed makes the same rows.
        overwrite: replace the output.

    Raises:
        UsageError: for files whose names say that they are validation or test data; for kinds that aren't known or lack what they need.
        DataError: for rows that can't be read, or whose words can't be changed.
        OutputError: when the output is there already or can't be written.
    """
    for path in files:
        split = split_of(path) if isinstance(path, Path) else None
        if split in ("validation", "test"):
            fix = "Augment training rows only; rename the file if it holds these"
            raise UsageError(f"{path.name} holds {split} rows by its name: changed rows would make the figures wrong", fix=fix)
    check_output_file(output_path, overwrite=overwrite, inputs=[*files, *test_files])
    variations = _chosen(kinds, synonyms_file, paraphrase)
    roles = roles_of_files(files, map_columns=map_columns)
    changer = _Changer(roles)
    taken = {text_hash(changer.text(row)) for row in iterate_rows([*files, *test_files], map_columns)}
    maker = _Maker(changer, variations, paraphrase, num_copies, seed, taken)
    columns = list(dict.fromkeys(name for row in iterate_rows(files, map_columns) for name in row.values))
    if MARK in columns:
        raise DataError(f"there is a column '{MARK}' already: the rows were made before", file=str(files[0]), fix="Augment the source")
    num_rows = 0
    with writing_rows(output_path, [*columns, MARK]) as write:
        for batch in _batches(iterate_rows(files, map_columns)):
            for row in maker.extended(batch, num_rows):
                write(row)
            num_rows += len(batch)
            log.info("%s rows done.", f"{num_rows:,}")
    return Augmented(output_path, num_rows, dict(sorted(maker.made.items())), maker.num_failed)


def _chosen(kinds: Sequence[str] | None, synonyms_file: Path | None, paraphrase: Paraphrase | None) -> dict[str, Variation | None]:
    """Return the variations by name; a paraphrase, which is made in batches, has none.

    Raises:
        UsageError: see :func:`augment`.
    """
    possible: dict[str, Variation | None] = dict(VARIATIONS)
    if synonyms_file is not None:
        possible[SYNONYMS] = synonyms(read_synonyms(synonyms_file))
    if paraphrase is not None:
        possible[PARAPHRASE] = None
    if kinds is None:
        return possible
    needs = {SYNONYMS: "--synonyms_file", PARAPHRASE: "--paraphrase_model"}
    for kind in kinds:
        if kind not in possible and kind in needs:
            raise UsageError(f"--kinds {kind} needs {needs[kind]}", fix=f"Give {needs[kind]}")
        if kind not in possible:
            known = [*VARIATIONS, SYNONYMS, PARAPHRASE]
            raise UsageError(f"--kinds {kind} isn't known; known: {', '.join(known)}", fix=nearest(kind, known) or None)
    unused = [needs[kind] for kind in (SYNONYMS, PARAPHRASE) if kind in possible and kind not in kinds]
    if unused:
        raise UsageError(f"{unused[0]} has no effect: --kinds {','.join(kinds)} doesn't use it", fix="Leave it out, or add the kind")
    return {kind: possible[kind] for kind in dict.fromkeys(kinds)}


def read_synonyms(path: Path) -> dict[str, list[str]]:
    """Read a list of synonyms: JSON ``{"word": ["other", …]}``, or a table with a word and another one a row.

    Raises:
        DataError: when it can't be read, or holds something else.
    """
    fix = 'Write {"card": ["bank card"], …} as .json, or two columns as .csv'
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix.lower() == ".json":
                found = json.load(file)
            else:
                rows = [row for row in csv.reader(file, delimiter="\t" if path.suffix == ".tsv" else ",") if row]
                found = {}
                for number, row in enumerate(rows, start=1):
                    if len(row) < 2:
                        raise DataError("it has one cell, not a word and others", file=str(path), row=number, fix=fix)
                    found.setdefault(row[0].strip(), []).extend(cell.strip() for cell in row[1:] if cell.strip())
    except (OSError, ValueError) as error:
        raise DataError(f"the synonyms can't be read: {error}", file=str(path), fix=fix) from error
    lists = {word: [others] if isinstance(others, str) else others for word, others in found.items()} if isinstance(found, dict) else {}
    if not lists or not all(
        isinstance(others, list) and others and all(isinstance(one, str) for one in others) for others in lists.values()
    ):
        raise DataError("the synonyms are no words with lists of words", file=str(path), fix=fix)
    return {word.casefold(): list(others) for word, others in lists.items()}


class _Changer:
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


class _Maker:
    """Makes variations of rows, each text once."""

    def __init__(
        self,
        changer: _Changer,
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


def _batches(rows: Iterator[PlacedRow]) -> Iterator[list[PlacedRow]]:
    batch: list[PlacedRow] = []
    for row in rows:
        batch.append(row)
        if len(batch) >= BATCH_ROWS:
            yield batch
            batch = []
    if batch:
        yield batch
