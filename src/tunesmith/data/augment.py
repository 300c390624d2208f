"""More training rows from those there are: each a small change of one, with its answer and a mark that says how it was made."""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tunesmith.data.changed_rows import MARK, PARAPHRASE, Changer, Maker, Paraphrase
from tunesmith.data.doctor.checks import text_hash
from tunesmith.data.folders import split_of
from tunesmith.data.named_rows import RowSource
from tunesmith.data.rows_of_files import PlacedRow, iterate_rows, roles_of_files
from tunesmith.data.variations import VARIATIONS, Variation, synonyms
from tunesmith.data.writing import check_output_file, writing_rows
from tunesmith.errors import DataError, UsageError, nearest

log = logging.getLogger(__name__)

SYNONYMS = "synonyms"
#: Rows paraphrased together.
BATCH_ROWS = 32

#: What a model is asked.
PARAPHRASE_PROMPT = "Say this in other words. Keep its meaning, names and numbers. Answer with the new sentence only.\n\n{text}"


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
    changer = Changer(roles)
    taken = {text_hash(changer.text(row)) for row in iterate_rows([*files, *test_files], map_columns)}
    maker = Maker(changer, variations, paraphrase, num_copies, seed, taken)
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


def _batches(rows: Iterator[PlacedRow]) -> Iterator[list[PlacedRow]]:
    batch: list[PlacedRow] = []
    for row in rows:
        batch.append(row)
        if len(batch) >= BATCH_ROWS:
            yield batch
            batch = []
    if batch:
        yield batch
