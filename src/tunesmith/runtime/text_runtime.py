"""What runtimes of models that write text have in common, whatever computes: prompts become ids, settings and labels are checked."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tunesmith.data.task_file import TaskRecord
from tunesmith.data.templates import PromptValue, Template
from tunesmith.data.tokenize import encode_texts
from tunesmith.errors import DataError, UsageError
from tunesmith.runtime.constraints import Constrained, Follower, rule_out
from tunesmith.runtime.known_labels import known_labels
from tunesmith.runtime.protocol import Answer, Choice
from tunesmith.runtime.sampling import Sampling
from tunesmith.runtime.stopping import StopRule, TextStream

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from tunesmith.runtime.engine import Batch

log = logging.getLogger(__name__)


@dataclass
class Row:
    """An answer in the making.

    Attributes:
        index: the number of its prompt.
        most: tokens that it may have.
        draw: its random numbers.
        follower: keeps it to a grammar; None for an answer that is free.
    """

    index: int
    most: int
    draw: random.Random
    tokens: list[int] = field(default_factory=list)
    stopped: bool = False
    follower: Follower | None = None

    @property
    def ended(self) -> bool:
        return self.stopped or len(self.tokens) >= self.most

    def add(self, token: int, rule: StopRule, tokenizer: PreTrainedTokenizerBase) -> None:
        """Append a token; the answer stops with what ends it, and where its grammar leaves nothing to be said."""
        self.tokens.append(token)
        self.stopped = rule.met_by(self.tokens, tokenizer)
        if self.follower is not None and not self.stopped:
            self.follower.take(token)
            self.stopped = self.follower.is_complete


class TextRuntime(Constrained):
    """The part of a `Runtime` that is the same for all models that continue text.

    Args:
        tokenizer: what belongs to the model.
        template: how prompts become text, and what ends an answer.
        task: what the model was trained to do; by default what the template says of its rows.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, template: Template, task: TaskRecord | None = None) -> None:
        self.tokenizer, self.template = tokenizer, template
        self.task = task or TaskRecord(template.task)
        self._rule = StopRule.of(template, tokenizer)

    @property
    def context_length(self) -> int | None:
        """The most tokens that prompt and answer may have together; None when the model names no limit."""
        return None

    def generate(
        self,
        prompts: Sequence[PromptValue],
        *,
        max_new_tokens: int = 256,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int | None = None,
        batch_size: int | None = None,
    ) -> list[Answer]:
        """Answer every prompt, in their order; see `Runtime.generate`.

        A model that was trained to write labels answers with the likeliest of them, unless a temperature asks for drawn text.
        """
        sampling = Sampling(temperature, top_p, seed)
        if self._answers_by_label(sampling):
            return [Answer(choice.labels[0], True, 0) for choice in self._choices(prompts, self.task.labels, batch_size, most_unscored=1.0)]
        encoded = self._encode(prompts)
        rows = self._rows(encoded, sampling, max_new_tokens)
        self._write(rows, encoded, sampling, max_new_tokens=max_new_tokens, batch_size=batch_size)
        return [self._answer(row) for row in rows]

    def stream(
        self,
        prompt: PromptValue,
        *,
        max_new_tokens: int = 256,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int | None = None,
    ) -> Iterator[str]:
        """Yield the answer to one prompt piece by piece; see `Runtime.stream`."""
        sampling = Sampling(temperature, top_p, seed)
        if self._answers_by_label(sampling):
            yield self._choices([prompt], self.task.labels, most_unscored=1.0)[0].labels[0]
            return
        encoded = self._encode([prompt])
        row = self._rows(encoded, sampling, max_new_tokens)[0]
        text = TextStream(self._rule, self.tokenizer)
        for _ in self._grow(row, encoded, sampling):
            if piece := text.push(row.tokens[-1]):
                yield piece
        if piece := text.finish():
            yield piece

    def open_row(self, ids: Sequence[int], *, room: int) -> Batch:
        """Read one row of token ids, and return what it goes on from: its next logits, and a way to append tokens, whatever they are.

        Args:
            ids: at least one, fewer than the model's context.
            room: how many tokens are going to be appended.
        """
        raise NotImplementedError

    def _write(
        self, rows: list[Row], encoded: Sequence[list[int]], sampling: Sampling, *, max_new_tokens: int, batch_size: int | None
    ) -> None:
        """Append tokens to all rows until they have ended."""
        raise NotImplementedError

    def _grow(self, row: Row, encoded: Sequence[list[int]], sampling: Sampling) -> Iterator[None]:
        """Append tokens to the row of the only prompt until it has ended; yields after each."""
        raise NotImplementedError

    def _choices(
        self, prompts: Sequence[PromptValue], known: tuple[str, ...], batch_size: int | None = None, *, most_unscored: float
    ) -> list[Choice]:
        """Choose among ``known`` behind each prompt; ``most_unscored`` as for :class:`tunesmith.runtime.choosing.LabelSearch`."""
        raise NotImplementedError

    def _hold(self, rows: Sequence[Row]) -> None:
        """Hold answers to the grammar, where there is one."""
        constraint = self._constraint()
        for row in rows:
            row.follower = constraint.follow() if constraint is not None else None

    def _extend(self, rows: Sequence[Row], logits: Tensor, sampling: Sampling) -> list[int]:
        """Choose a token for each row by logits ``(rows, V)``, and append it to those that haven't ended."""
        if any(row.follower is not None for row in rows):
            logits = rule_out(logits, [None if row.ended else row.follower for row in rows])
        tokens = sampling.choose(logits, [row.draw for row in rows])
        for row, token in zip(rows, tokens, strict=True):
            if not row.ended:
                row.add(token, self._rule, self.tokenizer)
        return tokens

    def _stop_ids(self) -> frozenset[int]:
        return self._rule.token_ids

    def _answers_by_label(self, sampling: Sampling) -> bool:
        task = self.task
        return task.name == "text-classification" and bool(task.labels) and not task.multi_label and sampling.temperature == 0

    def _known_labels(self, labels: Sequence[str] | None) -> tuple[str, ...]:
        return known_labels(self.task, labels)

    def _check_room(self, num_tokens: int, name: str) -> None:
        context = self.context_length
        if context is not None and num_tokens > context:
            raise DataError(f"{name} has {num_tokens} tokens, but the model's context is {context} tokens", fix="Shorten it")

    def _encode(self, prompts: Sequence[PromptValue]) -> list[list[int]]:
        """Return the ids of the prompts, each checked."""
        encoded = encode_texts([self.template.prompt(prompt, self.tokenizer) for prompt in prompts], self.tokenizer)
        context = self.context_length
        for number, ids in enumerate(encoded, 1):
            name = "the prompt" if len(encoded) == 1 else f"prompt {number}"
            if not ids:
                raise DataError(f"{name} is empty")
            if context is not None and len(ids) >= context:
                raise DataError(f"{name} has {len(ids)} tokens, but the model's context is {context} tokens", fix="Shorten it")
        return encoded

    def _rows(self, encoded: Sequence[list[int]], sampling: Sampling, max_new_tokens: int) -> list[Row]:
        """Return empty answers with the room that each has."""
        if max_new_tokens < 1:
            raise UsageError(f"max_new_tokens is {max_new_tokens}, but an answer has at least one token")
        context = self.context_length
        room = [max_new_tokens if context is None else min(max_new_tokens, context - len(ids)) for ids in encoded]
        num_short = sum(most < max_new_tokens for most in room)
        if num_short:
            words = "%d of %d answers have less room than %d tokens: the model's context is %d tokens."
            log.info(words, num_short, len(room), max_new_tokens, context)
        return [Row(index, most, draw) for index, (most, draw) in enumerate(zip(room, sampling.draws(encoded), strict=True))]

    def _answer(self, row: Row) -> Answer:
        return Answer(self._rule.text_of(row.tokens, self.tokenizer), row.stopped, len(row.tokens))
