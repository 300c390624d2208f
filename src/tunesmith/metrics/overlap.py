"""Whether an answer is the right text, and how many of its words are right."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from tunesmith.metrics.protocol import Needs

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True)
class ExactMatch:
    """The share of answers that are one of the references, blanks around them aside."""

    name: ClassVar[str] = "exact_match"
    headline: ClassVar[str] = "exact_match"
    greater_is_better: ClassVar[bool] = True
    needs: ClassVar[Needs] = "text"

    def compute(self, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
        """Return ``exact_match`` and ``exact_match_normalized``, 0 to 1; for the latter see :func:`normalize`."""
        exact = self.per_row(predictions, references)
        normalized = [
            normalize(predicted) in {normalize(text) for text in right} for predicted, right in zip(predictions, references, strict=True)
        ]
        return {"exact_match": sum(exact) / len(exact), "exact_match_normalized": sum(normalized) / len(normalized)}

    def per_row(self, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
        """Return 1 where the answer is a reference, else 0."""
        pairs = zip(predictions, references, strict=True)
        return [float(predicted.strip() in {text.strip() for text in right}) for predicted, right in pairs]


@dataclass(frozen=True)
class TokenF1:
    """The harmonic mean of the shares of words that answer and reference have in common (Rajpurkar et al. 2016, section 6.1)."""

    name: ClassVar[str] = "token_f1"
    headline: ClassVar[str] = "token_f1"
    greater_is_better: ClassVar[bool] = True
    needs: ClassVar[Needs] = "text"

    def compute(self, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
        """Return ``token_f1``, 0 to 1: the mean over rows, each with its best reference."""
        scores = self.per_row(predictions, references)
        return {"token_f1": sum(scores) / len(scores)}

    def per_row(self, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
        """Return the F1 of each row."""
        pairs = zip(predictions, references, strict=True)
        return [max(_token_f1(predicted, text) for text in right) for predicted, right in pairs]


def normalize(text: str) -> str:
    """Return a text in lower case without punctuation, English articles and repeated blanks, as SQuAD's evaluation script does."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_WITHOUT_PUNCTUATION)).split())


def _token_f1(predicted: str, right: str) -> float:
    ours, theirs = normalize(predicted).split(), normalize(right).split()
    if not ours or not theirs:
        return float(ours == theirs)
    num_common = (Counter(ours) & Counter(theirs)).total()
    return 2 * num_common / (len(ours) + len(theirs))
