"""What heads compute, for comparison: logits of labels and of tags, cosines of pairs.

Legend: N outputs (one a text; of a tagger one a token), L labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tunesmith.data.placeholders import as_text

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from tunesmith.runtime.head_runtime import HeadRuntime

Row = Mapping[str, Any]
#: Logits as near as this to a tie are one.
_TIE = 1e-3


@dataclass(frozen=True)
class HeadDistance:
    """How far one head's outputs are from another's.

    Attributes:
        largest, mean: of the absolute differences of logits, or of cosines.
        kl: mean divergence in nats; None for cosines, which are no distribution.
        agreement: share of the same labels; None for cosines.
        count: outputs compared.
    """

    largest: float
    mean: float
    kl: float | None
    agreement: float | None
    count: int


@dataclass(frozen=True)
class HeadOutputs:
    """What a head computed.

    Attributes:
        values: ``(N, L)`` logits, or ``(N, 1)`` cosines.
        answers: what it says of each text.
        kind: ``one`` label a text or token, ``several`` at once, or a ``cosine``.
    """

    values: npt.NDArray[np.float32]
    answers: tuple[str, ...]
    kind: str

    def distance_to(self, other: HeadOutputs) -> HeadDistance:
        """Compare with another head's outputs for the same texts."""
        import numpy as np

        if self.values.shape != other.values.shape:  # another number of labels, or of tokens: nothing agrees
            return HeadDistance(float("inf"), float("inf"), None, 0.0, len(self.values))
        difference = np.abs(self.values - other.values)
        if not np.isfinite(difference).all():
            return HeadDistance(float("inf"), float("inf"), None, 0.0, len(self.values))
        largest, mean = float(difference.max(initial=0.0)), float(difference.mean()) if difference.size else 0.0
        if self.kind == "cosine":
            return HeadDistance(largest, mean, None, None, len(self.values))
        same, kl = _agreement(self.values, other.values, several=self.kind == "several")
        return HeadDistance(largest, mean, kl, same, len(self.values))


def _agreement(first: Any, second: Any, *, several: bool) -> tuple[float, float]:
    """Return the share of outputs with the same labels, and the mean divergence."""
    import numpy as np

    from tunesmith.export.logits import log_softmax

    if several:  # each label is a choice of its own: logits of yes, and 0 of no
        first, second = first.reshape(-1, 1), second.reshape(-1, 1)
        first, second = np.hstack([first, 0 * first]), np.hstack([second, 0 * second])
    rows = np.arange(len(first))
    chosen, other = first.argmax(axis=1), second.argmax(axis=1)
    same = (chosen == other) | (first[rows, chosen] - first[rows, other] <= _TIE)
    ours, theirs = log_softmax(first), log_softmax(second)
    return float(same.mean()), float((np.exp(ours) * (ours - theirs)).sum(axis=1).clip(min=0.0).mean())


def head_outputs(runtime: HeadRuntime, rows: Sequence[Row]) -> HeadOutputs:
    """Return what a head computes for rows, whatever computes it.

    Args:
        runtime: of a classifier, a tagger or an embedder.
        rows: with the columns that the head reads.
    """
    import numpy as np

    task: Any = runtime.task
    if task.name == "similarity":
        embedder: Any = runtime
        cosines = [float(value) for value in embedder.similarities(list(rows))]
        return HeadOutputs(np.array(cosines, dtype=np.float32)[:, None], tuple(f"{value:.4f}" for value in cosines), "cosine")
    texts = [_texts(runtime, row) for row in rows]
    encoded, types = runtime.encode(texts)
    found: dict[int, Any] = {}
    for batch, mask, output in runtime.outputs(encoded, types):
        logits, real = _array(output.logits), _array(mask)  # (B, L) or (B, T, L); (B, T)
        for index, place in enumerate(batch):
            found[place] = logits[index][real[index] > 0] if logits.ndim == 3 else logits[index][None]
    values = np.concatenate([found[place] for place in range(len(encoded))]).astype(np.float32)
    several = bool(task.multi_label)
    if task.name == "token-classification":
        answers = tuple(" ".join(task.labels[tag] for tag in found[place].argmax(axis=1)) for place in range(len(encoded)))
    else:
        answers = tuple(runtime.answers([_as_row(runtime, text) for text in texts]))
    return HeadOutputs(values, answers, "several" if several else "one")


def _texts(runtime: HeadRuntime, row: Row) -> tuple[str, ...]:
    """The texts that the head reads of a row; words in a list are one text."""
    columns = runtime.task.text_columns or ("text",)
    return tuple(" ".join(map(str, row[name])) if isinstance(row.get(name), (list, tuple)) else as_text(row.get(name)) for name in columns)


def _as_row(runtime: HeadRuntime, texts: tuple[str, ...]) -> dict[str, str]:
    return dict(zip(runtime.task.text_columns or ("text",), texts, strict=True))


def _array(value: Any) -> Any:
    """A tensor of whatever computes, as a numpy array."""
    import numpy as np

    return value.detach().float().cpu().numpy() if hasattr(value, "detach") else np.asarray(value)
