"""Rows in another language than the rest, by langid.

M. Lui, T. Baldwin, "langid.py: an off-the-shelf language identification tool" (2012).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from tunesmith.data.doctor.checks import Check, Context, Row
from tunesmith.data.doctor.findings import Finding

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

#: Languages that are told apart: rarer ones are what short texts are mistaken for.
LANGUAGES = (
    *("ar", "bg", "bn", "cs", "da", "de", "el", "en", "es", "et", "fa", "fi", "fr", "he", "hi", "hr", "hu", "id", "it", "ja", "ko"),
    *("lt", "lv", "ms", "nl", "no", "pl", "pt", "ro", "ru", "sk", "sl", "sr", "sv", "sw", "ta", "te", "th", "tr", "uk", "ur", "vi", "zh"),
)
#: A row tells its language with this many letters (a third in scripts without spaces), and this certainty.
FEWEST_LETTERS, CERTAIN = 24, 0.9
#: Share of the rows that makes a language the data's; from several such languages on, none is out of place.
MAIN_SHARE, ALONE_SHARE = 0.05, 0.9
#: A row that shares more than this of its words with other rows is in their language: it may hold a foreign name or title.
KNOWN_WORDS = 0.3
MOST_WORDS, MOST_PLACES = 200_000, 10_000
#: Letters of a row that are looked at.
LOOKED_AT = 400
_WORD = re.compile(r"[^\W\d_]+")


class Languages(Check):
    """Which languages the rows are in, and rows that stand alone with theirs."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._counts: Counter[str] = Counter()
        self._words: Counter[str] = Counter()
        self._rows: dict[str, list[tuple[int, tuple[str, ...]]]] = {}

    def see(self, row: Row) -> Iterable[Finding]:
        """Take note of a row's language."""
        text = row.asked[:LOOKED_AT]
        words = tuple(word.casefold() for word in _WORD.findall(text))
        letters = sum(map(len, words)) * (1 if text.isascii() or ord(max(text, default="a")) < 0x2E80 else 3)
        if letters < FEWEST_LETTERS:
            return ()
        language, certainty = detector().classify(text)
        if certainty < CERTAIN:
            return ()
        self._counts[language] += 1
        self._remember(words)
        rows = self._rows.setdefault(language, [])
        if len(rows) < MOST_PLACES:
            rows.append((row.index, words))
        return ()

    def _remember(self, words: tuple[str, ...]) -> None:
        self._words.update(set(words))
        if len(self._words) > MOST_WORDS:
            self._words = Counter({word: count for word, count in self._words.items() if count > 1})

    def finish(self) -> Iterable[Finding]:
        """Return rows in a language of their own, or that the data has several languages."""
        total = self._counts.total()
        if not total:
            return
        main, count = self._counts.most_common(1)[0]
        if count < ALONE_SHARE * total:
            shares = ", ".join(f"{name} {number / total:.0%}" for name, number in self._counts.most_common(5))
            yield Finding("mixed_languages", "note", f"the rows are in several languages: {shares}")
        usual = {name for name, number in self._counts.items() if number >= MAIN_SHARE * total} | {main}
        for language in sorted(self._rows.keys() - usual):
            for index, words in self._rows[language]:
                if not self._known(words, len(self._rows[language])):
                    message = f"it is in another language ('{language}') than most rows ('{main}')"
                    yield self.context.places.finding(index, "other_language", "warning", message, "Translate it, or leave it out")

    def _known(self, words: tuple[str, ...], rows_of_language: int) -> bool:
        """Whether a row's words are mostly those of more rows than its language has."""
        return sum(self._words[word] > rows_of_language for word in words) > KNOWN_WORDS * len(words)

    def figures(self) -> Mapping[str, Any]:
        """Return the share of each language among the rows that tell theirs."""
        total = self._counts.total()
        return {"languages": {name: round(count / total, 4) for name, count in self._counts.most_common(5)}} if total else {}


@lru_cache(maxsize=1)
def detector() -> LanguageIdentifier:
    """Return the detector; its model lies in its package."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    found = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    found.set_languages(set(LANGUAGES) & set(found.labels))
    return found
