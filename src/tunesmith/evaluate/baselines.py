"""What costs nothing and has to be beaten: the most frequent answer, TF-IDF with logistic regression, the first sentences of a text.

A baseline sees the training rows' prompts and answers, and answers held-out prompts.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    Baseline = Callable[[Sequence[str], Sequence[str], Sequence[str]], list[str]]

MAJORITY = "majority"
TFIDF = "tfidf_logistic_regression"
COPY = "copy"
LEAD = "lead_3"

#: What the baselines are called in sentences.
WORDS = {
    MAJORITY: "always the most frequent answer",
    TFIDF: "TF-IDF with logistic regression",
    COPY: "the text itself",
    LEAD: "the text's first three sentences",
}
#: More rows make TF-IDF slower and hardly better.
MOST_TRAINING_ROWS = 20_000
_SENTENCE_END = re.compile(r"(?<=[.!?…。！？])[\"'”’)\]]*\s+|\n{2,}")


@dataclass(frozen=True)
class Examples:
    """Prompts and answers, one of each a row."""

    prompts: tuple[str, ...]
    answers: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.prompts)

    def sample(self, most: int, seed: int) -> tuple[list[str], list[str]]:
        """Return prompts and answers of at most so many rows, drawn at random: in sorted files every so-many-th row may miss labels."""
        count = range(len(self))
        chosen = sorted(random.Random(seed).sample(count, most)) if len(self) > most else count
        return [self.prompts[index] for index in chosen], [self.answers[index] for index in chosen]


def baseline_answers(task: str, train: Examples, prompts: Sequence[str]) -> dict[str, list[str]]:
    """Return what every baseline of a task answers to ``prompts``, by the baseline's name.

    Args:
        task: one of ``data.task_file.TASK_NAMES``; text-classification with one label a row.
        train: training rows; without any only baselines that need none are returned.
        prompts: of the held-out rows.
    """
    if task == "summarization":
        return {LEAD: [lead(prompt) for prompt in prompts], COPY: list(prompts)}
    if not len(train):
        return {}
    found = {MAJORITY: majority(train.answers, len(prompts))}
    if task == "text-classification" and len(set(train.answers)) > 1:
        answers = tfidf_logistic_regression(train, prompts)
        if answers is not None:
            found[TFIDF] = answers
    return found


def majority(answers: Sequence[str], count: int) -> list[str]:
    """Return the most frequent of ``answers``, ``count`` times; of several the first one seen."""
    return [Counter(answers).most_common(1)[0][0]] * count


def tfidf_logistic_regression(train: Examples, prompts: Sequence[str], *, seed: int = 0) -> list[str] | None:
    """Return the labels that a logistic regression on TF-IDF weights of words and word pairs gives.

    Args:
        train: at most :data:`MOST_TRAINING_ROWS` of it are used, drawn at random.
        prompts: to be labelled.
        seed: of what is drawn and of the solver.

    Returns: None when the prompts have no words to count.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    texts, labels = train.sample(MOST_TRAINING_ROWS, seed)
    if len(set(labels)) < 2:
        return None
    # signs are counted beside words, since emoticons and exclamation marks tell tones apart; sublinear_tf dampens words that a text repeats
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\w+|[^\w\s]+", max_features=200_000)
    model = make_pipeline(vectorizer, LogisticRegression(C=10.0, max_iter=300, random_state=seed))
    try:
        model.fit(texts, labels)
    except ValueError as error:
        if "empty vocabulary" in str(error):
            return None
        raise
    return [str(label) for label in model.predict(list(prompts))]


def lead(text: str, sentences: int = 3) -> str:
    """Return the first sentences of a text, the baseline of summarization (See et al. 2017, Get To The Point)."""
    parts = [part.strip() for part in _SENTENCE_END.split(text.strip()) if part and part.strip()]
    return " ".join(parts[:sentences])
