"""What a check is, and what it is given: rows with their texts, one at a time."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tunesmith.data.doctor.findings import Finding, Places, Severity

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from tunesmith.data.doctor.roles import Roles
    from tunesmith.data.templates import Template

_NO_WORD = re.compile(r"\W+")
#: The part of a row that a message shows.
SHOWN = 60


class Row:
    """One row as checks see it.

    Attributes:
        index: among all rows of all files.
        split: ``train``, ``validation`` or ``test``.
        values: the columns as they are.
        prompt, answer: what the model is given and what it learns; ``answer`` is None where the rows' format isn't known.
        asked: what makes two rows the same question: the prompt, or the whole of a text that is learnt as it stands.
    """

    def __init__(
        self,
        index: int,
        split: str,
        values: Mapping[str, Any],
        prompt: str,
        answer: str | None,
        places: Places,
        *,
        is_plain_text: bool = False,
    ) -> None:
        self.index, self.split, self.values, self.prompt, self.answer = index, split, values, prompt, answer
        self.asked = ((answer or "") if is_plain_text else prompt).strip()
        self._places = places

    @cached_property
    def text(self) -> str:
        """Everything that is read or learnt."""
        return "\n".join(part for part in (self.prompt, self.answer) if part)

    @cached_property
    def words(self) -> str:
        """:attr:`asked` in small letters, without punctuation, one blank between words."""
        return _NO_WORD.sub(" ", self.asked.casefold()).strip()

    @cached_property
    def asked_hash(self) -> int:
        """64-bit hash of :attr:`asked`."""
        return text_hash(self.asked)

    @cached_property
    def row_hash(self) -> int:
        """64-bit hash of prompt and answer."""
        return text_hash(f"{self.prompt.strip()}\x1e{(self.answer or '').strip()}")

    def finding(self, check: str, severity: Severity, message: str, fix: str = "") -> Finding:
        """Return a finding about this row."""
        return self._places.finding(self.index, check, severity, message, fix)


@dataclass(frozen=True)
class Context:
    """What a check may need beside the rows.

    Attributes:
        places: where each row came from.
        roles: which column is what.
        tokenizer, template: of the model that is to be trained; None when none is named.
        max_seq_len: most tokens of a row, None when it follows the data.
        phone_region: the country whose way of writing phone numbers is looked for beside the international one, e.g. ``US``.
    """

    places: Places
    roles: Roles
    tokenizer: PreTrainedTokenizerBase | None = None
    template: Template | None = None
    max_seq_len: int | None = None
    phone_region: str | None = "US"


class Check:
    """A kind of defects: sees every row once, in order, then says what only all rows together show."""

    def __init__(self, context: Context) -> None:
        self.context = context

    def see(self, row: Row) -> Iterable[Finding]:
        """Return what is wrong with a row; take note of what :meth:`finish` needs."""
        return ()

    def finish(self) -> Iterable[Finding]:
        """Return what is wrong in all rows together; called once, after the last row."""
        return ()

    def figures(self) -> Mapping[str, Any]:
        """Return numbers that describe the data, by name; called after :meth:`finish`."""
        return {}


def text_hash(text: str) -> int:
    """Return a 64-bit hash of a text; lone surrogates, which no encoding has, count too."""
    import xxhash

    return xxhash.xxh3_64_intdigest(text.encode("utf-8", "surrogatepass"))


def kind_in_words(value: object) -> str:
    """Return what a JSON value is: a text, a number, a list …"""
    kinds = {str: "a text", bool: "true or false", int: "a number", float: "a number", list: "a list", tuple: "a list", dict: "an object"}
    return "null" if value is None else kinds.get(type(value), type(value).__name__)


def shown(text: str, most: int = SHOWN) -> str:
    """Return text in quotes on one line, shortened at its end."""
    line = " ".join(text.split())
    return repr(line if len(line) <= most else line[: most - 1] + "…")
