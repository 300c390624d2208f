"""Small changes to a text that keep what it means: casing, typos, punctuation, words left out, words swapped by a list."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence

#: Words that carry no meaning of their own in a request; a negation, a number or a name is never left out.
FILLERS = frozenset(
    (
        "a",
        "an",
        "the",
        "please",
        "just",
        "really",
        "very",
        "actually",
        "kindly",
        "also",
        "oh",
        "hi",
        "hello",
        "hey",
        "ok",
        "okay",
        "um",
        "uh",
    )
)
#: Keys beside each letter on a QWERTY keyboard, from which most typos come.
NEIGHBOURS: Mapping[str, str] = {
    "q": "wa", "w": "qes", "e": "wrd", "r": "etf", "t": "ryg", "y": "tuh", "u": "yij", "i": "uok", "o": "ipl", "p": "ol",
    "a": "qsz", "s": "adwx", "d": "sfec", "f": "dgrv", "g": "fhtb", "h": "gjyn", "j": "hkum", "k": "jli", "l": "ko",
    "z": "asx", "x": "zsdc", "c": "xdfv", "v": "cfgb", "b": "vghn", "n": "bhjm", "m": "njk",
}  # fmt: skip
#: Letters of the shortest word that gets a typo, and words per typo.
TYPO_LETTERS, WORDS_PER_TYPO = 4, 8
_WORD = re.compile(r"[^\W\d_]+")
_TRAILING = re.compile(r"[.!?,;:]+\s*$")
_COMMA = re.compile(r"[,;](?=\s)")
_APOSTROPHE = re.compile(r"(?<=\w)['’](?=\w)")

#: A text, the source of chance, and the words (in small letters) that must stay as they are; None where nothing can be changed.
Variation = Callable[[str, random.Random, frozenset[str]], "str | None"]


def casing(text: str, chance: random.Random, kept: frozenset[str]) -> str | None:
    """Write everything small, everything large, or the first letter otherwise; words to be kept stay."""
    ways: Sequence[Callable[[str], str]] = (str.lower, str.upper, str.swapcase)
    way = chance.choice(ways)
    if way is str.swapcase:
        first = _WORD.search(text)
        if first is None or first.group().casefold() in kept:
            return None
        at = first.start()
        return text[:at] + text[at].swapcase() + text[at + 1 :]
    return _WORD.sub(lambda match: match.group() if match.group().casefold() in kept else way(match.group()), text)


def punctuation(text: str, chance: random.Random, kept: frozenset[str]) -> str | None:
    """Leave out the sign at the end, commas, or apostrophes."""
    ways = [pattern for pattern in (_TRAILING, _COMMA, _APOSTROPHE) if pattern.search(text)]
    return chance.choice(ways).sub("", text) if ways else text + chance.choice((".", "!", " ?", " ."))


def typos(text: str, chance: random.Random, kept: frozenset[str]) -> str | None:
    """Mistype a letter in one of ``WORDS_PER_TYPO`` longer words: swapped, doubled, left out, or the key beside it."""
    words = [match for match in _WORD.finditer(text) if len(match.group()) >= TYPO_LETTERS and match.group().casefold() not in kept]
    if not words:
        return None
    chosen = chance.sample(words, max(1, len(words) // WORDS_PER_TYPO))
    for match in sorted(chosen, key=lambda match: -match.start()):
        text = text[: match.start()] + _mistyped(match.group(), chance) + text[match.end() :]
    return text


def _mistyped(word: str, chance: random.Random) -> str:
    """Return a word with one letter behind its first mistyped."""
    at = chance.randrange(1, len(word) - 1)
    letter = word[at]
    way = chance.randrange(4)
    if way == 0 and word[at] != word[at + 1]:
        return word[:at] + word[at + 1] + letter + word[at + 2 :]
    if way == 1:
        return word[:at] + letter + word[at:]
    if way == 2 and letter.lower() in NEIGHBOURS:
        return word[:at] + chance.choice(NEIGHBOURS[letter.lower()]) + word[at + 1 :]
    return word[:at] + word[at + 1 :]


def word_dropping(text: str, chance: random.Random, kept: frozenset[str]) -> str | None:
    """Leave out one of the words that carry no meaning (English ones, see ``FILLERS``)."""
    words = text.split(" ")
    droppable = [at for at, word in enumerate(words) if word.lower() in FILLERS and word.casefold() not in kept]
    if not droppable or len(words) < 3:
        return None
    at = chance.choice(droppable)
    left = words[:at] + words[at + 1 :]
    if at == 0 and words[0][:1].isupper():
        left[0] = left[0][:1].upper() + left[0][1:]
    return " ".join(left)


def synonyms(of: Mapping[str, Sequence[str]]) -> Variation:
    """Return a variation that puts a synonym from the list in the place of one word.

    Args:
        of: word (in small letters) -> what may stand for it.
    """

    def swap(text: str, chance: random.Random, kept: frozenset[str]) -> str | None:
        words = [match for match in _WORD.finditer(text) if match.group().casefold() in of and match.group().casefold() not in kept]
        if not words:
            return None
        match = chance.choice(words)
        other = chance.choice(of[match.group().casefold()])
        other = other[:1].upper() + other[1:] if match.group()[:1].isupper() else other
        return text[: match.start()] + other + text[match.end() :]

    return swap


#: What needs nothing from the user.
VARIATIONS: Mapping[str, Variation] = {"casing": casing, "typos": typos, "punctuation": punctuation, "word_dropping": word_dropping}


def words_of(text: str) -> frozenset[str]:
    """Return the words of a text in small letters."""
    return frozenset(match.group().casefold() for match in _WORD.finditer(text))
