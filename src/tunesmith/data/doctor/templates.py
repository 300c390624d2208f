"""Text that a template or a tokenizer would take for its own."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from tunesmith.data.doctor.checks import Check, Context, Row, shown
from tunesmith.data.doctor.findings import Finding

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: Tokens that begin and end turns in the templates of the common model families.
TURN_TOKENS = (
    "<|im_start|>",
    "<|im_end|>",
    "<|endoftext|>",
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|end|>",
    "<start_of_turn>",
    "<end_of_turn>",
    "[INST]",
    "[/INST]",
    "<<SYS>>",
    "</s>",
)
#: More rows than this share with a placeholder: that is how the data is.
USUAL = 0.2
MOST_PLACES = 10_000
_PLACEHOLDER = re.compile(
    r"\{\{\s*[A-Za-z_][\w. ]{0,40}\}\}"
    r"|\[(?:INSERT|YOUR|ADD|ENTER|FILL IN|NAME|DATE|TODO|PLACEHOLDER)\b[^\]\n]{0,40}\]"
    r"|<(?:insert|your|enter)[ _-][^>\n]{1,40}>"
    r"|\blorem ipsum\b"
    r"|\bTODO:"
)
_NOTHING = frozenset({"n/a", "#n/a", "nan", "null", "none", "undefined", "tbd", "todo", "placeholder", "xxx"})


class SpecialTokensInRows(Check):
    """Rows that contain a special token: the tokenizer reads it as the end of a turn wherever it stands."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        own = own_tokens(context.tokenizer) if context.tokenizer is not None else set(TURN_TOKENS)
        self._own = re.compile("|".join(re.escape(token) for token in sorted(own, key=len, reverse=True)) or r"(?!)")
        self._known = re.compile("|".join(map(re.escape, TURN_TOKENS)))
        self._named = context.tokenizer is not None
        ends = {context.tokenizer.eos_token, context.tokenizer.bos_token} if context.tokenizer is not None else set()
        self._turns = {token for token in ends if token} | set(TURN_TOKENS)

    def see(self, row: Row) -> Iterable[Finding]:
        """Return the first special token in a row; texts that are learnt as they stand may be rendered on purpose."""
        if self.context.roles.is_plain_text:
            return
        for where, text in (("prompt", row.prompt), ("answer", row.answer or "")):
            if "<" not in text and "[" not in text and not self._named:
                continue
            found = self._own.search(text)
            if found is not None:
                harmless = found.group() not in self._turns  # a token of the vocabulary that ends nothing, such as <filename>
                ends = where == "answer" and found.end() == len(text.rstrip())
                what = (
                    f"the {where} {'ends in' if ends else 'contains'} the special token {found.group()}, which the tokenizer reads as one"
                )
                yield row.finding("special_token", "warning" if ends or harmless else "error", what, "Take it out: tunesmith data clean")
                return
            foreign = self._known.search(text) if self._named else None
            if foreign is not None:
                what = f"the {where} contains {foreign.group()}, a token of another model's template"
                yield row.finding("foreign_token", "warning", what, "Give the plain turns, without a template around them")
                return


def own_tokens(tokenizer: PreTrainedTokenizerBase) -> set[str]:
    """Return the tokens that a tokenizer marks as special; other added words (Gemma has HTML's tags) are text."""
    marked = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    known = tokenizer.get_added_vocab()
    return {token for token in {*marked, *tokenizer.all_special_tokens, *(one for one in TURN_TOKENS if one in known)} if token.strip()}


class Placeholders(Check):
    """Rows with a placeholder that nobody filled in."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._found: list[tuple[int, str]] = []
        self._rows = self._count = 0

    def see(self, row: Row) -> Iterable[Finding]:
        """Take note of a row's placeholder."""
        self._rows += 1
        found = _PLACEHOLDER.search(row.text)
        word = found.group() if found else (row.answer or "").strip()
        if found is None and word.lower() not in _NOTHING:
            return ()
        self._count += 1
        if len(self._found) < MOST_PLACES:
            self._found.append((row.index, word))
        return ()

    def finish(self) -> Iterable[Finding]:
        """Return the rows, unless so many have one that it belongs to the data."""
        if self._count > USUAL * self._rows and self._count > 1:
            yield Finding(
                "placeholder", "note", f"{self._count:,} rows contain what looks like a placeholder, e.g. {shown(self._found[0][1])}"
            )
            return
        for index, word in self._found:
            message = f"a placeholder that was never filled in: {shown(word)}"
            yield self.context.places.finding(index, "placeholder", "warning", message, "Fill it in, or leave the row out")
