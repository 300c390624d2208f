"""Hold out rows for validation: stratified, the same for the same seed, and no text on both sides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tunesmith.data.provenance import data_columns
from tunesmith.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from datasets import Dataset

HASH_ROWS = 10_000
#: A column is taken for a label when it has at most this many values, each in this many rows on average.
MOST_LABELS = 1000
ROWS_PER_LABEL = 5


def hold_out(
    train: Dataset,
    *,
    fraction: float = 0.1,
    minimum: int = 1,
    maximum: int = 2000,
    label_column: str | None = None,
    text_columns: Sequence[str] | None = None,
    seed: int = 0,
) -> tuple[Dataset, Dataset | None]:
    """Split rows into training and validation rows, each in file order.

    Args:
        train: all rows.
        fraction: share of the rows to hold out, then clamped to ``minimum`` … ``maximum`` rows.
        label_column: keeps this column's distribution.
        text_columns: rows that are equal in these columns stay on one side; all columns but the label's when None.
        seed: decides which rows.

    Returns: the training rows and the held-out rows; the latter None when there is nothing that can be held out (a single row,
    or rows that are all the same).

    Raises:
        UsageError: for a fraction that is not between 0 and 1.
    """
    import numpy as np

    if not 0 < fraction < 1:
        raise UsageError(f"--validation_fraction {fraction} is no share of the rows", fix="Give a number between 0 and 1, e.g. 0.1")
    count = min(max(round(len(train) * fraction), minimum), maximum, len(train) - 1)
    if count < 1:
        return train, None
    groups = _group_numbers(train, text_columns, label_column)
    strata = _numbers(column_hashes(train, [label_column])) if label_column else np.zeros(len(train), dtype=np.int64)
    chosen = choose_groups(groups, strata, count, np.random.default_rng(seed))
    if not chosen.any():
        return train, None
    return tuple(train.select(np.flatnonzero(side), keep_in_memory=True) for side in (~chosen, chosen))


def is_label(dataset: Dataset, column: str) -> bool:
    """Return whether a column's values repeat as labels do: two to a thousand of them, each in five rows or more on average."""
    import numpy as np

    values = len(np.unique(column_hashes(dataset, [column])))
    return 2 <= values <= min(MOST_LABELS, len(dataset) // ROWS_PER_LABEL)


def column_hashes(dataset: Dataset, columns: Sequence[str]) -> npt.NDArray[np.uint64]:
    """Return a 64-bit hash of each row's values in ``columns``; equal values give equal hashes.

    Returns: ``(rows,)`` array: 8 bytes a row, whatever the rows hold.
    """
    import numpy as np
    import xxhash

    parts = []
    for batch in dataset.select_columns(list(columns)).with_format(None).iter(batch_size=HASH_ROWS):
        rows = zip(*(batch[name] for name in columns), strict=True)
        parts.append(np.fromiter((xxhash.xxh3_64_intdigest(repr(row).encode()) for row in rows), dtype=np.uint64))
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.uint64)


def _numbers(hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    import numpy as np

    return np.unique(hashes, return_inverse=True)[1].astype(np.int64)


def _group_numbers(train: Dataset, text_columns: Sequence[str] | None, label_column: str | None) -> npt.NDArray[np.int64]:
    """Number the groups of rows that must stay together."""
    everything = data_columns(train)
    columns = list(text_columns) if text_columns else [name for name in everything if name != label_column] or everything
    groups = _numbers(column_hashes(train, columns))
    # One and the same text everywhere (a fixed prompt): only rows that are equal throughout are duplicates then.
    return groups if groups.max() > 0 else _numbers(column_hashes(train, everything))


def choose_groups(
    groups: npt.NDArray[np.int64], strata: npt.NDArray[np.int64], count: int, random: np.random.Generator
) -> npt.NDArray[np.bool_]:
    """Return which rows are held out: whole groups, about ``count`` rows, each stratum by its share.

    Args:
        groups: ``(rows,)`` numbers from 0; rows of a group stay together.
        strata: ``(rows,)`` numbers from 0, e.g. of labels.
        count: rows to hold out.
        random: decides which.
    """
    import numpy as np

    num_groups = int(groups.max()) + 1
    if num_groups < 2:
        return np.zeros(len(groups), dtype=np.bool_)
    sizes = np.bincount(groups, minlength=num_groups)
    stratum_of = np.zeros(num_groups, dtype=np.int64)
    stratum_of[groups[::-1]] = strata[::-1]
    order = random.permutation(num_groups)
    order = order[np.argsort(stratum_of[order], kind="stable")]
    taken = np.zeros(num_groups, dtype=np.bool_)
    wanted = _quotas(np.bincount(stratum_of, weights=sizes), count)
    # A label with a single text is learnt rather than measured.
    alone = np.bincount(stratum_of, minlength=len(wanted)) < 2
    if not alone.all():
        wanted[alone] = 0
    starts = np.searchsorted(stratum_of[order], np.arange(len(wanted) + 1))
    for stratum, quota in enumerate(wanted):
        members = order[starts[stratum] : starts[stratum + 1]]
        filled = np.cumsum(sizes[members])
        taken[members[filled <= quota]] = True
    if not taken.any():
        taken[order[np.argmin(sizes[order])]] = True
    return taken[groups]


def _quotas(sizes: npt.NDArray[Any], count: int) -> npt.NDArray[np.int64]:
    """Share ``count`` rows out among strata of these sizes by the largest remainder."""
    import numpy as np

    exact = sizes * (count / sizes.sum())
    quotas: npt.NDArray[np.int64] = np.floor(exact).astype(np.int64)
    missing = count - int(quotas.sum())
    quotas[np.argsort(quotas - exact, kind="stable")[:missing]] += 1
    return quotas
