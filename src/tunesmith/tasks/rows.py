"""From rows as they were read to token ids and labels, for tasks without a template."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tunesmith.artifact import write_file_atomically
from tunesmith.data.cache import temporary_folder
from tunesmith.data.columns import number_column
from tunesmith.data.lengths import MOST_LOST, choose_max_seq_len
from tunesmith.data.prepare import BATCH_ROWS, Prepared
from tunesmith.data.provenance import data_columns, place_of
from tunesmith.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset, Features

log = logging.getLogger(__name__)

Read = TypeVar("Read")
#: (what was read of some rows, most tokens or None) -> ``input_ids``, ``labels``, ``length``, ``num_supervised`` and more of each
Tokenize = Callable[[Sequence[Read], "int | None"], list[dict[str, Any]]]


@dataclass(frozen=True)
class Limits:
    """How long a text may be.

    Attributes:
        max_seq_len: most tokens of a text; None follows the data.
        model_max_len: what the model takes.
        allow_truncation: go on where more than 5% of the rows are cut.
        report: JSON lines with the rows that are cut or dropped, written when there are any.
    """

    max_seq_len: int | None = None
    model_max_len: int | None = None
    allow_truncation: bool = False
    report: Path | None = None


def prepare_rows(
    dataset: Dataset,
    read: Callable[[Mapping[str, Any]], Read | None],
    tokenize: Tokenize[Read],
    features: Mapping[str, Any],
    limits: Limits,
) -> Prepared:
    """Read, tokenize and cut rows.

    Args:
        dataset: rows as they were read.
        read: a row as the task sees it; None for one without a label, which is dropped. What it raises gets the row's place.
        tokenize: token ids and labels.
        features: types of the columns that ``tokenize`` makes beside ``input_ids``.
        limits: how long a text may be.

    Raises:
        DataError: for a row that can't be read, when nothing is left, and when too much is cut.
    """
    whole = _encode(dataset, read, tokenize, features, None)
    dropped = sorted(set(range(len(dataset))) - set(whole["row"]))
    if not len(whole):
        raise DataError("nothing to learn from: no row has a label", file=place_of(dataset, 0)[0] if len(dataset) else None)
    lengths, rows = number_column(whole, "length"), number_column(whole, "row")
    longest = choose_max_seq_len(lengths, limits.max_seq_len, limits.model_max_len)
    long = [int(row) for row in rows[lengths > longest]]
    _check_cut(len(long), len(whole), longest, int(lengths.max()), allowed=limits.allow_truncation)
    _report(dataset, dropped, long, lengths[lengths > longest].tolist(), longest, limits.report)
    kept = _encode(dataset, read, tokenize, features, longest) if long else whole
    tokens = number_column(kept, "length")
    return Prepared(
        dataset=kept.remove_columns(["num_supervised"]),
        source=dataset,
        max_seq_len=longest,
        num_tokens=int(tokens.sum(dtype="int64")),
        num_supervised=int(number_column(kept, "num_supervised").sum(dtype="int64")),
        num_cut_rows=len(long),
        num_cut_tokens=int((lengths - tokens).sum(dtype="int64")),
        num_dropped_rows=len(dropped),
    )


def _encode(
    dataset: Dataset,
    read: Callable[[Mapping[str, Any]], Read | None],
    tokenize: Tokenize[Read],
    features: Mapping[str, Any],
    longest: int | None,
) -> Dataset:
    from datasets import Features, List, Value

    names = data_columns(dataset)
    numbers = dict.fromkeys(("length", "num_supervised", "row"), Value("int32"))
    made: Features = Features({"input_ids": List(Value("int32")), **features, **numbers})

    def encode(batch: Mapping[str, list[Any]], indices: list[int]) -> dict[str, list[Any]]:
        found = []
        for index, values in zip(indices, zip(*(batch[name] for name in names), strict=True), strict=True):
            try:
                row = read(dict(zip(names, values, strict=True)))
            except DataError as error:
                file, place = place_of(dataset, index)
                raise DataError(error.message, file=file, row=place, fix=error.fix) from error
            if row is not None:
                found.append((index, row))
        encoded = tokenize([row for _, row in found], longest)
        encoded = [{**one, "row": index} for (index, _), one in zip(found, encoded, strict=True)]
        return {name: [one[name] for one in encoded] for name in made}

    folder = temporary_folder()
    return dataset.select_columns(names).map(
        encode,
        batched=True,
        with_indices=True,
        batch_size=BATCH_ROWS,
        remove_columns=names,
        features=made,
        cache_file_name=str(folder / "rows.arrow"),
        load_from_cache_file=False,
        new_fingerprint=folder.name.replace("-", "")[:16],  # its own would pickle the tokenizer to hash it
    )


def _check_cut(num_cut: int, num_rows: int, longest: int, needed: int, *, allowed: bool) -> None:
    if not num_cut:
        return
    message = f"{num_cut:,} of {num_rows:,} rows are longer than {longest} tokens and lose their end"
    if num_cut > MOST_LOST * num_rows and not allowed:
        fix = f"Raise --max_seq_len (the longest row has {needed:,} tokens), shorten the rows, or allow it: --allow_truncation"
        raise DataError(message, fix=fix)
    log.warning("%s.", message)


def _report(dataset: Dataset, dropped: list[int], cut: list[int], tokens: list[int], longest: int, file: Path | None) -> None:
    if dropped:
        name, first = place_of(dataset, dropped[0])
        place = f"{name}, row {first}" if name else f"row {first}"
        log.warning("%s of %s rows have no label and are dropped (the first: %s).", f"{len(dropped):,}", f"{len(dataset):,}", place)
    fates = [(index, 0, "dropped: no label") for index in dropped]
    fates += [(index, number, f"cut: {number - longest} tokens at its end") for index, number in zip(cut, tokens, strict=True)]
    if file is None or not fates:
        return
    lines = []
    for index, number, what in sorted(fates):
        name, row = place_of(dataset, index)
        lines.append(json.dumps({"row": row, "file": name, "tokens": number, "what": what}, ensure_ascii=False))
    write_file_atomically(file, "\n".join(lines) + "\n")
