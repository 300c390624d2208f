"""Looking at data: its rows, what is wrong with them, and how a model sees them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from tunesmith.data.doctor.report import Report
    from tunesmith.data.preview_rows import Preview


def read_rows(data_files: Sequence[str], *, max_samples: int | None = None) -> Iterator[Mapping[str, Any]]:
    """Yield the rows of data files, one mapping of columns each.

    Raises:
        DataError: when a file can't be read.
    """
    from tunesmith.data.provenance import data_columns
    from tunesmith.data.sources import load_splits

    rows = load_splits(data_files=list(data_files), max_samples=max_samples).train
    yield from rows.select_columns(data_columns(rows))


def check_data(
    data_files: str | Sequence[str],
    *,
    test_files: Sequence[str] = (),
    checks: Sequence[str] | None = None,
    text_template: str | None = None,
    text_field: str | None = None,
    map_columns: Mapping[str, str] | None = None,
    model_name_or_path: str | None = None,
    revision: str | None = None,
    token: str | None = None,
    trust_remote_code: bool = False,
    max_seq_len: int | None = None,
    phone_region: str | None = "US",
) -> Report:
    """Find what is wrong with data, by file and line.

    Args:
        data_files: files of training rows, one folder with its splits, ``sample:NAME`` or a hub id.
        test_files: rows to measure on; those that training gives away are found.
        checks: names in ``tunesmith.data.doctor.CHECKS``; all when None.
        text_template, text_field, map_columns: how rows become text, as for :func:`finetune`.
        model_name_or_path, revision, token, trust_remote_code: the model to be trained; its tokens are then counted.
        max_seq_len: most tokens of a row.
        phone_region: the country whose way of writing phone numbers counts beside the international one; ``none`` for none.

    Raises:
        UserError: for files that aren't there or hold no row, and for options that don't fit.
    """
    from tunesmith.data.doctor.examine import examine
    from tunesmith.data.doctor.inputs import check_region, sources_by_split

    return examine(
        sources_by_split(data_files, test_files, token=token),
        checks=checks,
        text_template=text_template,
        text_field=text_field,
        map_columns=map_columns,
        tokenizer=_tokenizer(model_name_or_path, revision, token, trust_remote_code) if model_name_or_path else None,
        max_seq_len=max_seq_len,
        phone_region=check_region(phone_region),
    )


def preview_data(
    data_files: Sequence[str],
    *,
    model_name_or_path: str | None = None,
    revision: str | None = None,
    token: str | None = None,
    trust_remote_code: bool = False,
    map_columns: Mapping[str, str] | None = None,
    num_rows: int = 3,
    color: bool = False,
    **rendering: Any,
) -> Preview:
    """Return the first rows as a model will see them; ``rendering`` is passed to :func:`tunesmith.data.preview_rows.preview_rows`."""
    from tunesmith.data.preview_rows import preview_rows, read_splits

    splits = read_splits(data_files, map_columns=map_columns, token=token)
    tokenizer = _tokenizer(model_name_or_path, revision, token, trust_remote_code)
    return preview_rows(splits, tokenizer, num_rows=num_rows, color=color, **rendering)


def _tokenizer(name: str | None, revision: str | None, token: str | None, trust_remote_code: bool) -> PreTrainedTokenizerBase:
    from tunesmith.models.load import load_tokenizer
    from tunesmith.models.sources import resolve_model

    return load_tokenizer(resolve_model(name, revision=revision, token=token), trust_remote_code=trust_remote_code)
