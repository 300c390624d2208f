"""Rows to token ids with labels, memory-mapped: the last step before training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.data.provenance import data_columns, place_of
from tunesmith.data.tokenize import IGNORE_INDEX, encode_examples
from tunesmith.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

    from tunesmith.data.templates import Template


@dataclass(frozen=True)
class Prepared:
    """Tokenized rows and what became of them.

    Attributes:
        dataset: columns ``input_ids``, ``labels`` (-100 where nothing is learnt, not shifted) and ``length``.
        max_seq_len: no row is longer, in tokens.
        num_tokens, num_supervised: over the rows that are left.
        num_cut_rows, num_cut_tokens: rows that were shortened, and by how much together.
        num_dropped_rows: rows without anything to learn from.
    """

    dataset: Dataset
    max_seq_len: int
    num_tokens: int
    num_supervised: int
    num_cut_rows: int = 0
    num_cut_tokens: int = 0
    num_dropped_rows: int = 0


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
    """First version: tokenizes, cuts at the end."""
    import numpy as np
    from datasets import Features, List, Value

    def encode(batch: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
        names = list(batch)
        rows = [dict(zip(names, values, strict=True)) for values in zip(*batch.values(), strict=True)]
        encoded = encode_examples([template.segments(row, tokenizer) for row in rows], tokenizer)
        if max_seq_len is not None:
            encoded = [(ids[:max_seq_len], labels[:max_seq_len]) for ids, labels in encoded]
        return {
            "input_ids": [ids for ids, _ in encoded],
            "labels": [labels for _, labels in encoded],
            "length": [len(ids) for ids, _ in encoded],
            "num_supervised": [sum(label != IGNORE_INDEX for label in labels) for _, labels in encoded],
        }

    integers = Value("int32")
    features = Features({"input_ids": List(integers), "labels": List(integers), "length": integers, "num_supervised": integers})
    rows = dataset.select_columns(data_columns(dataset))
    tokenized = rows.map(encode, batched=True, remove_columns=rows.column_names, features=features, load_from_cache_file=False)
    supervised = np.asarray(tokenized.with_format("numpy")["num_supervised"])
    lengths = np.asarray(tokenized.with_format("numpy")["length"])
    kept = np.flatnonzero(supervised)
    if not len(kept):
        file, row = place_of(dataset, 0)
        raise DataError(f"no row has anything to learn from: {dataset[0]}", file=file, row=row)
    tokenized = tokenized.select(kept) if len(kept) < len(tokenized) else tokenized
    return Prepared(
        dataset=tokenized.select_columns(["input_ids", "labels", "length"]),
        max_seq_len=max_seq_len or int(lengths.max()),
        num_tokens=int(lengths[kept].sum()),
        num_supervised=int(supervised.sum()),
        num_dropped_rows=len(lengths) - len(kept),
    )
