"""Where an answer ends, and how token ids become its text, at once or piece by piece."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunesmith.data.templates import Template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: What an incomplete multi-byte character looks like when its first bytes are decoded alone.
_INCOMPLETE = "\ufffd"


@dataclass(frozen=True)
class StopRule:
    """What ends an answer.

    Attributes:
        token_ids: any of these tokens.
        texts: any of these texts, for stops that the tokenizer writes as several tokens or joins with what is before them.
    """

    token_ids: frozenset[int]
    texts: tuple[str, ...]

    @classmethod
    def of(cls, template: Template, tokenizer: PreTrainedTokenizerBase) -> StopRule:
        """Return the rule of a template: its stop tokens, and the tokenizer's end-of-text token."""
        names = [*template.stop_tokens, *([str(tokenizer.eos_token)] if tokenizer.eos_token else [])]
        ids = {name: tokenizer.convert_tokens_to_ids(name) for name in names if name in tokenizer.get_vocab()}
        whole = {*tokenizer.get_added_vocab(), *tokenizer.all_special_tokens}
        return cls(frozenset(ids.values()), tuple(name for name in template.stop_tokens if name and name not in whole))

    def met_by(self, tokens: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> bool:
        """Return whether an answer ends with its last token."""
        if tokens[-1] in self.token_ids:
            return True
        if not self.texts:
            return False
        # A token holds at least one byte, so a stop text that ends in the last token begins at most this many tokens before it.
        reach = max(len(text.encode()) for text in self.texts) + 1
        tail = decode(tokens[-reach - 1 :], tokenizer)
        return any(text in tail for text in self.texts)

    def text_of(self, tokens: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> str:
        """Return the text of a whole answer, without what ended it."""
        kept = tokens[:-1] if tokens and tokens[-1] in self.token_ids else tokens
        text = decode(kept, tokenizer)
        return _without_blank(text[: self.end_of(text)])

    def end_of(self, text: str) -> int:
        """Return the position of the first stop text, the text's length where there is none."""
        places = [text.find(stop) for stop in self.texts]
        return min((place for place in places if place >= 0), default=len(text))

    def certain_length(self, text: str) -> int:
        """Return how much of an unfinished text can't become part of a stop text, whatever follows."""
        end = self.end_of(text)
        for stop in self.texts:
            for length in range(min(len(stop) - 1, end), 0, -1):
                if text.endswith(stop[:length]):
                    end = min(end, len(text) - length)
                    break
        return end


class TextStream:
    """Turns the tokens of an answer into pieces of text, each of which is final: no half characters, nothing of a stop text."""

    def __init__(self, rule: StopRule, tokenizer: PreTrainedTokenizerBase) -> None:
        self._rule, self._tokenizer = rule, tokenizer
        self._tokens: list[int] = []
        # Only the tokens from `_start` on are decoded again: `_start.._read` are settled and give the rest its context.
        self._start = self._read = 0
        self._pending = ""
        self._is_first = True

    def push(self, token: int) -> str:
        """Take the next token and return the text that it makes certain, often none."""
        if token in self._rule.token_ids:
            return ""
        self._tokens.append(token)
        text = self._unread()
        if text.endswith(_INCOMPLETE):
            return ""
        self._pending += text
        self._start, self._read = self._read, len(self._tokens)
        return self._release(self._rule.certain_length(self._pending))

    def finish(self) -> str:
        """Return what is left when the answer has ended."""
        self._pending += self._unread()
        return self._release(self._rule.end_of(self._pending))

    def _unread(self) -> str:
        settled = decode(self._tokens[self._start : self._read], self._tokenizer)
        return decode(self._tokens[self._start :], self._tokenizer)[len(settled) :]

    def _release(self, length: int) -> str:
        piece, self._pending = self._pending[:length], self._pending[length:]
        if piece and self._is_first:
            self._is_first = False
            return _without_blank(piece)
        return piece


def decode(tokens: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the text of tokens as it is: special tokens left out, blanks untouched."""
    return str(tokenizer.decode(list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False))


def _without_blank(text: str) -> str:
    """Take off the blank that a template has before the answer: training moves it from the prompt's end to the answer's front."""
    return text.removeprefix(" ")
