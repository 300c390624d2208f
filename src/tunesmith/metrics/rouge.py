"""ROUGE by Google's rouge-score, the implementation that summarization papers report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from tunesmith.metrics.protocol import Needs

_KINDS = ("rouge1", "rouge2", "rougeL", "rougeLsum")


@dataclass(frozen=True)
class Rouge:
    """ROUGE-1, -2, -L and -Lsum (Lin 2004): F1 of common words, word pairs and subsequences; 0 to 1.

    ``rougeLsum`` takes each line of a text for a sentence. No stemming. Of several references each row and kind takes the best.
    """

    name: ClassVar[str] = "rouge"
    headline: ClassVar[str] = "rougeL"
    greater_is_better: ClassVar[bool] = True
    needs: ClassVar[Needs] = "text"

    def compute(self, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
        """Return ``rouge1``, ``rouge2``, ``rougeL`` and ``rougeLsum``: means over the rows."""
        scorer = _scorer(_KINDS)
        sums = dict.fromkeys(_KINDS, 0.0)
        for predicted, right in zip(predictions, references, strict=True):
            for kind, score in scorer.score_multi(list(right), predicted).items():
                sums[kind] += score.fmeasure
        return {kind: total / len(predictions) for kind, total in sums.items()}

    def per_row(self, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
        """Return the ROUGE-L of each row."""
        scorer = _scorer(("rougeL",))
        pairs = zip(predictions, references, strict=True)
        return [float(scorer.score_multi(list(right), predicted)["rougeL"].fmeasure) for predicted, right in pairs]


def _scorer(kinds: Sequence[str]) -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(list(kinds), use_stemmer=False)
