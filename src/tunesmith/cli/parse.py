"""From the words of a command line to names with values.

argparse can't do what users of this field type: flags that are known only to another library, ``--flag_name`` and ``--flag-name``,
``--flag``, ``--flag true``, ``--flag=false`` and ``--no-flag`` for one boolean, lists with commas and with spaces, and all
mistakes reported at once.
Values stay text here; ``tunesmith.config.resolve`` reads them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tunesmith.config.declare import Kind, Option
from tunesmith.config.values import FALSE_WORDS, TRUE_WORDS, split_list

FLAG = re.compile(r"--?[A-Za-z][\w-]*(=.*)?", re.DOTALL)  # -output too: a misspelt flag rather than a value


@dataclass
class Parsed:
    """What a command line gave: values by option name, words that belong to no flag, and what is wrong."""

    given: dict[str, object] = field(default_factory=dict)
    positionals: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def parse(words: Sequence[str], options: Mapping[str, Option], *, others: Callable[[], Mapping[str, Kind]] | None = None) -> Parsed:
    """Read the words behind a command's name.

    Args:
        words: as the shell split them.
        options: the command's own options by name.
        others: how flags that ``options`` lacks take their values; called only when there is such a flag.
    """
    return _Parser(words, options, others).run()


class _Parser:
    def __init__(self, words: Sequence[str], options: Mapping[str, Option], others: Callable[[], Mapping[str, Kind]] | None) -> None:
        self.words = list(words)
        self.kinds: dict[str, Kind] = {name: known.kind for name, known in options.items()}
        self.short = {known.short: name for name, known in options.items() if known.short}
        self.others = others
        self.at = 0
        self.parsed = Parsed()

    def run(self) -> Parsed:
        while self.at < len(self.words):
            word = self.words[self.at]
            self.at += 1
            if word == "--":
                self.parsed.positionals += self.words[self.at :]
                break
            if is_flag(word):
                self._flag(word)
            else:
                self.parsed.positionals.append(word)
        return self.parsed

    def _flag(self, word: str) -> None:
        written, equals, attached = word.partition("=")
        name = written.lstrip("-").replace("-", "_")
        if not written.startswith("--"):
            name = self.short.get(name, name)
        kind = self._kind(name)
        positive = name.removeprefix("no_")
        if kind is None and positive != name and self._kind(positive) in ("boolean", "boolean or value"):
            if equals or self._take_boolean():
                self._problem(f"{written} takes no value")
            return self._store(positive, False, written)
        if equals and not attached:
            return self._problem(f"{written}= needs a value")
        value = attached if equals else self._take(kind, written)
        if value is None:
            return None
        if kind in ("list", "mapping"):
            return self._extend(name, self._items(value, kind) if isinstance(value, str) else value)
        return self._store(name, value, written)

    def _kind(self, name: str) -> Kind | None:
        """Return how a flag takes its value; flags of another library are asked for only when there is one."""
        if name not in self.kinds and name.removeprefix("no_") not in self.kinds and self.others is not None:
            self.kinds = {**self.others(), **self.kinds}
            self.others = None
        return self.kinds.get(name)

    def _take(self, kind: Kind | None, written: str) -> object:
        """Take the value of a flag from the words that follow it; True when it needs none, None when it lacks one."""
        if kind == "boolean":
            return self._take_boolean() or True
        values: list[object] = []
        while self.at < len(self.words) and not is_flag(self.words[self.at]) and self.words[self.at] != "--":
            word = self.words[self.at]
            self.at += 1
            if kind not in ("list", "mapping"):
                return word
            values += self._items(word, kind)
        if not values and kind in ("value", "list", "mapping"):
            self._problem(f"{written} needs a value")
            return None
        return values or True

    def _take_boolean(self) -> str | None:
        if self.at < len(self.words) and self.words[self.at].lower() in TRUE_WORDS + FALSE_WORDS:
            self.at += 1
            return self.words[self.at - 1]
        return None

    def _store(self, name: str, value: object, written: str) -> None:
        if self.parsed.given.get(name, value) != value:
            self._problem(f"{written} is given twice: {self.parsed.given[name]} and {value}")
        self.parsed.given[name] = value

    def _items(self, word: str, kind: Kind | None) -> list[str]:
        """Split a comma list; a mapping stays whole, since it may be JSON with commas of its own."""
        return [word] if kind == "mapping" else split_list(word)

    def _extend(self, name: str, values: object) -> None:
        if isinstance(values, list):
            before = self.parsed.given.get(name, [])
            self.parsed.given[name] = [*before, *values] if isinstance(before, list) else values

    def _problem(self, text: str) -> None:
        self.parsed.problems.append(text)


def is_flag(word: str) -> bool:
    """Whether a word is a flag; a negative number, a lone dash and a sentence that starts with a dash are not."""
    return FLAG.fullmatch(word) is not None
