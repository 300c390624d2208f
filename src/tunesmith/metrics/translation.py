"""BLEU and chrF by sacrebleu, on raw text, with its default settings, so that figures can be compared with published ones.

A row may have several references. sacrebleu takes references as columns, and a column of None where a row has fewer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from tunesmith.metrics.protocol import Needs

if TYPE_CHECKING:
    from sacrebleu.metrics.base import Metric as SacreMetric


@dataclass(frozen=True)
class Bleu:
    """BLEU (Papineni et al. 2002) of the whole corpus, 0 to 100."""

    name: ClassVar[str] = "bleu"
    headline: ClassVar[str] = "bleu"
    greater_is_better: ClassVar[bool] = True
    needs: ClassVar[Needs] = "text"

    def compute(self, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
        """Return ``bleu``."""
        return {"bleu": _corpus_score(self._scorer(), predictions, references)}

    def per_row(self, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
        """Return the BLEU of each row alone, exponentially smoothed, over the n-gram orders that the row has."""
        scorer = self._scorer(effective_order=True)
        return [float(scorer.sentence_score(text, list(right)).score) for text, right in zip(predictions, references, strict=True)]

    def signature(self, references: Sequence[Sequence[str]]) -> str:
        """Return sacrebleu's line that says how the figure was made; papers print it beside the figure."""
        return _signature(self._scorer(), references)

    def _scorer(self, *, effective_order: bool = False) -> SacreMetric:
        from sacrebleu.metrics import BLEU

        return BLEU(effective_order=effective_order)


@dataclass(frozen=True)
class Chrf:
    """chrF (Popović 2015): F2 of character n-grams over the whole corpus, 0 to 100."""

    name: ClassVar[str] = "chrf"
    headline: ClassVar[str] = "chrf"
    greater_is_better: ClassVar[bool] = True
    needs: ClassVar[Needs] = "text"

    def compute(self, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
        """Return ``chrf``."""
        return {"chrf": _corpus_score(self._scorer(), predictions, references)}

    def per_row(self, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
        """Return the chrF of each row alone."""
        scorer = self._scorer()
        return [float(scorer.sentence_score(text, list(right)).score) for text, right in zip(predictions, references, strict=True)]

    def signature(self, references: Sequence[Sequence[str]]) -> str:
        """Return sacrebleu's line that says how the figure was made."""
        return _signature(self._scorer(), references)

    def _scorer(self) -> SacreMetric:
        from sacrebleu.metrics import CHRF

        return CHRF()


def _corpus_score(scorer: SacreMetric, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    most = max(map(len, references))
    columns = [[right[place] if place < len(right) else None for right in references] for place in range(most)]
    return float(scorer.corpus_score(list(predictions), columns).score)


def _signature(scorer: SacreMetric, references: Sequence[Sequence[str]]) -> str:
    # sacrebleu knows the number of references only after it has scored something
    counts = {len(right) for right in references}
    scorer.corpus_score(["a"], [["a"]] * max(counts))
    text = str(scorer.get_signature())
    return text if len(counts) == 1 else text.replace(f"nrefs:{max(counts)}", "nrefs:var")
