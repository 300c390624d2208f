"""Rows to token ids with labels, memory-mapped: the last step before training.

Rows are tokenized once and kept under a key of their content, the template and the tokenizer; lengths, cutting and dropping are
worked out from the kept ids each time.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.data.cache import ARROW_PREFIX, Store, content_hash, open_arrow, temporary_folder, tokenizer_hash
from tunesmith.data.columns import number_column
from tunesmith.data.lengths import Cut, choose_max_seq_len, cut_rows
from tunesmith.data.provenance import data_columns, place_of
from tunesmith.data.tokenize import IGNORE_INDEX, encode_examples
from tunesmith.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

    from tunesmith.data.templates import Template

log = logging.getLogger(__name__)

#: Part of the key: raised whenever the same rows would be tokenized otherwise.
TOKENIZING_VERSION = 1
BATCH_ROWS = 1000
#: How often a long preparation says where it is.
PROGRESS_ROWS = 100_000


@dataclass(frozen=True)
class Prepared:
    """Tokenized rows and what became of them.

    Attributes:
        dataset: columns ``input_ids``, ``labels`` (-100 where nothing is learnt, not shifted), ``length``, and ``row``, the index of
            the row in ``source``.
        source: the rows as they were read.
        max_seq_len: no row is longer, in tokens.
        num_tokens, num_supervised: over the rows that are left.
        num_cut_rows, num_cut_tokens: rows that were shortened, and the tokens that went.
        num_dropped_rows: rows without an answer, and rows whose answer begins behind ``max_seq_len``.
    """

    dataset: Dataset
    source: Dataset
    max_seq_len: int
    num_tokens: int
    num_supervised: int
    num_cut_rows: int = 0
    num_cut_tokens: int = 0
    num_dropped_rows: int = 0

    def lengths(self) -> npt.NDArray[np.int32]:
        """Return the tokens of each row, at once (``dataset["length"]`` goes row by row)."""
        return number_column(self.dataset, "length")

    def in_words(self, indices: Sequence[int], *, most: int = 8) -> str:
        """Name up to ``most`` rows of ``dataset`` as their files count them: ``train.jsonl, rows 3, 17``."""
        places = sorted(place_of(self.source, self.dataset[index]["row"]) for index in indices[:most])
        files = [
            f"{file or 'the data'}, rows {', '.join(str(row) for _, row in group)}"
            for file, group in itertools.groupby(places, key=lambda place: place[0])
        ]
        return "; ".join(files) + (" …" if len(indices) > most else "")


def prepare(
    dataset: Dataset,
    template: Template,
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_seq_len: int | None = None,
    model_max_len: int | None = None,
    allow_truncation: bool = False,
    dropped_file: Path | None = None,
    cache: bool = True,
    num_proc: int | None = None,
) -> Prepared:
    """Tokenize rows, and cut those that are too long at their end.

    Args:
        dataset: rows as they were read.
        template: how a row becomes text.
        tokenizer: the model's.
        max_seq_len: most tokens of a row; by default the 99.5th percentile of the lengths, rounded up to a multiple of 64.
        model_max_len: most tokens that the model takes, a cap on the above.
        allow_truncation: go on where more than 5% of the supervised tokens are lost.
        dropped_file: JSON lines with the row, file, tokens and fate of each row that is cut or dropped; written when there are any.
        cache: keep the tokenized rows for the next run.
        num_proc: processes that tokenize; one by default (the tokenizer itself uses threads).

    Raises:
        DataError: for a row that can't be rendered, when nothing is left to learn from, or when too much is cut.
    """
    tokenized = tokenize(dataset, template, tokenizer, cache=cache, num_proc=num_proc)
    lengths, supervised, rows = (number_column(tokenized, name) for name in ("length", "num_supervised", "row"))
    _check_supervised(dataset, template, supervised)
    longest = choose_max_seq_len(lengths[supervised > 0], max_seq_len, model_max_len)
    cut = cut_rows(tokenized, lengths, supervised, longest)
    empty = _rows_without_answer(len(dataset), rows, supervised)
    cut.check(allow_truncation=allow_truncation)
    _report(dataset, cut, rows, empty, dropped_file)
    return Prepared(
        dataset=cut.dataset.select_columns(["input_ids", "labels", "length", "row"]),
        source=dataset,
        max_seq_len=longest,
        num_tokens=cut.num_tokens,
        num_supervised=cut.num_supervised,
        num_cut_rows=len(cut.shortened),
        num_cut_tokens=cut.num_cut_tokens,
        num_dropped_rows=len(empty) + len(cut.dropped),
    )


def tokenize(
    dataset: Dataset, template: Template, tokenizer: PreTrainedTokenizerBase, *, cache: bool = True, num_proc: int | None = None
) -> Dataset:
    """Return the examples of all rows as ids, uncut.

    Returns: columns ``input_ids``, ``labels``, ``length``, ``num_supervised`` and ``row``, the index of the row in ``dataset``.
    """
    if not cache:
        return _encode_rows(dataset, template, tokenizer, temporary_folder(), num_proc)
    store = Store("tokenized")
    key = _cache_key(dataset, template, tokenizer)
    entry = store.find(key)
    if entry is None:
        with store.writing() as temporary:
            finished = temporary / "finished"
            finished.mkdir()
            _encode_rows(dataset, template, tokenizer, finished, num_proc)
            entry = store.keep(finished, key)
    else:
        log.debug("tokenized rows found in %s", entry)
    return open_arrow(entry)


def _cache_key(dataset: Dataset, template: Template, tokenizer: PreTrainedTokenizerBase) -> str:
    """Return a key of everything that decides the ids: content, template, tokenizer, and the programs that make them."""
    import tokenizers
    import transformers

    described = json.dumps(template.to_dict(), sort_keys=True)
    versions = (TOKENIZING_VERSION, tokenizers.__version__, transformers.__version__)
    parts = (content_hash(dataset), tokenizer_hash(tokenizer), described, versions)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def _encode_rows(dataset: Dataset, template: Template, tokenizer: PreTrainedTokenizerBase, folder: Path, num_proc: int | None) -> Dataset:
    from datasets import Features, List, Value

    names = data_columns(dataset)

    def encode(batch: Mapping[str, list[Any]], indices: list[int]) -> dict[str, list[Any]]:
        if indices[0] and indices[0] % PROGRESS_ROWS == 0:
            log.info("%s of %s rows tokenized.", f"{indices[0]:,}", f"{len(dataset):,}")
        examples, sources = [], []
        for index, values in zip(indices, zip(*(batch[name] for name in names), strict=True), strict=True):
            try:
                found = template.examples(dict(zip(names, values, strict=True)), tokenizer)
            except DataError as error:
                place, row = place_of(dataset, index)
                raise DataError(error.message, file=place, row=row, fix=error.fix) from error
            examples += found
            sources += [index] * len(found)
        encoded = encode_examples(examples, tokenizer)
        return {
            "input_ids": [ids for ids, _ in encoded],
            "labels": [labels for _, labels in encoded],
            "length": [len(ids) for ids, _ in encoded],
            "num_supervised": [len(labels) - labels.count(IGNORE_INDEX) for _, labels in encoded],
            "row": sources,
        }

    integers = Value("int32")
    lists, numbers = ("input_ids", "labels"), ("length", "num_supervised", "row")
    features = Features({**dict.fromkeys(lists, List(integers)), **dict.fromkeys(numbers, integers)})
    rows = dataset.select_columns(names)
    return rows.map(
        encode,
        batched=True,
        with_indices=True,
        batch_size=BATCH_ROWS,
        remove_columns=names,
        features=features,
        cache_file_name=str(folder / f"{ARROW_PREFIX}.arrow"),
        load_from_cache_file=False,
        # Its own fingerprint would pickle the tokenizer to hash it; the key of our own cache says what is in here.
        new_fingerprint=hashlib.sha256(str(folder).encode()).hexdigest()[:16],
        num_proc=num_proc if num_proc and num_proc > 1 else None,
    )


def _check_supervised(dataset: Dataset, template: Template, supervised: npt.NDArray[np.int32]) -> None:
    """Raise when no row has anything to learn from, and show one."""
    if supervised.any():
        return
    if not len(dataset):
        raise DataError("the data holds no row", fix="Give at least one row")
    place, row = place_of(dataset, 0)
    names = data_columns(dataset)
    shown = json.dumps({name: dataset[0][name] for name in names}, ensure_ascii=False, default=str)
    column = template.answer_column
    if column is not None and column not in names:
        reason, fix = f"there is no column '{column}'", f"Map the column that holds the answer: --map_columns COLUMN={column}"
    elif column is not None:
        reason, fix = f"column '{column}' is empty in every row", "Name the column that holds the answer as the last one of --text_template"
    else:
        reason, fix = "no message is the assistant's", 'Give each conversation an answer: {"role": "assistant", "content": "…"}'
    raise DataError(f"nothing to learn from: {reason}; the row is {shown[:300]}", file=place, row=row, fix=fix)


def _rows_without_answer(num_rows: int, rows: npt.NDArray[np.int32], supervised: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    import numpy as np

    has_answer = np.zeros(num_rows, dtype=np.bool_)
    has_answer[rows[supervised > 0]] = True
    return np.flatnonzero(~has_answer)


def _report(dataset: Dataset, cut: Cut, rows: npt.NDArray[np.int32], empty: npt.NDArray[np.int64], dropped_file: Path | None) -> None:
    """Say what is cut and dropped, and list the rows in a file."""
    from tunesmith.artifact import write_file_atomically

    if len(empty):
        file, first = place_of(dataset, int(empty[0]))
        place = f"{file}, row {first}" if file else f"row {first}"
        counts = f"{len(empty):,} of {len(dataset):,}"
        log.warning("%s rows have no answer and are dropped (the first: %s).", counts, place)
    if len(cut.shortened) or len(cut.dropped):
        log.warning("%s.", cut.in_words())
    fates = [*cut.fates(rows), *((int(row), 0, "dropped: no answer") for row in empty)]
    if dropped_file is None or not fates:
        return
    lines = []
    for index, tokens, what in sorted(fates):
        file, row = place_of(dataset, index)
        lines.append(json.dumps({"row": row, "file": file, "tokens": tokens, "what": what}, ensure_ascii=False))
    dropped_file.parent.mkdir(parents=True, exist_ok=True)
    write_file_atomically(dropped_file, "\n".join(lines) + "\n")
