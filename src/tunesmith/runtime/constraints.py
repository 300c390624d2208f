"""Answers that keep to a grammar: before each token, those that would leave it are ruled out.

The grammar is followed by llguidance, which onnxruntime-genai uses too. A `Constraint` is a grammar compiled for the tokens of one model;
each answer in the making has a `Follower` of its own. What is ruled out is a plain array, so any engine that shows its logits can use it.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
import torch

from tunesmith.data.answer_grammar import grammar_of, schema_grammar
from tunesmith.data.task_file import TaskRecord
from tunesmith.errors import ModelError, UsageError

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

# Legend: B rows of a batch, V vocabulary of the model's logits (perhaps more than the tokenizer has tokens).

_Runtime = TypeVar("_Runtime", bound="Constrained")

log = logging.getLogger(__name__)

#: Reading a vocabulary takes about a second: once for a tokenizer and its stop tokens.
_TOKENS: WeakKeyDictionary[PreTrainedTokenizerBase, dict[tuple[int, ...], LLTokenizer]] = WeakKeyDictionary()
#: What JSON is written with, at least; a vocabulary without these (T5's has no braces) can't write it.
_JSON_CHARACTERS = '{"a": [1, 2]}'


class Constraint:
    """A grammar compiled for a model's tokens.

    Args:
        grammar: see `tunesmith.data.answer_grammar`.
        tokenizer: what belongs to the model.
        stop_ids: tokens that end an answer; they are allowed where the answer is complete, and nowhere else.

    Raises:
        UsageError: for a tokenizer that llguidance can't read, or whose tokens can't write JSON.
    """

    def __init__(self, grammar: str, tokenizer: PreTrainedTokenizerBase, stop_ids: Iterable[int]) -> None:
        from llguidance import LLMatcher

        self._matcher = LLMatcher(_tokens_of(tokenizer, tuple(sorted(stop_ids))), grammar)
        if self._matcher.is_error():
            raise UsageError(f"answers can't be constrained: {_first_line(self._matcher)}", fix="Use --no-constrain")

    def follow(self) -> Follower:
        """Return what watches over a new answer."""
        return Follower(self._matcher.deep_copy())


class Follower:
    """How far one answer has come in its grammar.

    Attributes:
        is_complete: nothing can follow but what ends the answer.
    """

    def __init__(self, matcher: LLMatcher) -> None:
        self._matcher = matcher
        self.is_complete = False

    def allowed(self, vocabulary: int) -> np.ndarray:
        """Return which tokens may come next: ``(V,)`` truth values.

        Args:
            vocabulary: V; tokens that the tokenizer doesn't know are not allowed.

        Raises:
            ModelError: when no token is left that keeps to the grammar, or it became too complex to follow.
        """
        bits = np.unpackbits(np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8), bitorder="little")
        self._check(bool(bits[:vocabulary].any()))
        found = np.zeros(vocabulary, dtype=bool)
        found[: len(bits)] = bits[:vocabulary]
        return found

    def take(self, token: int) -> None:
        """Go on by one token, which was among the allowed ones.

        Raises:
            ModelError: when it wasn't.
        """
        self._check(bool(self._matcher.consume_token(token)))
        self.is_complete = bool(self._matcher.is_stopped())

    def _check(self, is_fine: bool) -> None:
        if self._matcher.is_error() or not is_fine:
            said = _first_line(self._matcher) or "no token of the model goes on from here"
            raise ModelError(f"an answer can't keep to its schema: {said}", fix="Write a simpler schema, or use --no-constrain")


class Constrained:
    """The part of a `Runtime` that decides what its answers keep to: the grammar of its task, until `with_schema` says otherwise."""

    tokenizer: PreTrainedTokenizerBase
    task: TaskRecord
    _follows_task = True
    _grammar: str | None = None
    _compiled: tuple[str, Constraint | None] | None = None

    @property
    def answer_grammar(self) -> str | None:
        """What answers may be, as a grammar of `tunesmith.data.answer_grammar`; None where they are free.

        Raises:
            UsageError: for a schema in ``task.json`` that answers can't be held to.
        """
        return grammar_of(self.task) if self._follows_task else self._grammar

    def with_schema(self: _Runtime, schema: Mapping[str, Any] | None) -> _Runtime:
        """Return a runtime around the same model whose answers are JSON of a schema; see `Runtime.with_schema`."""
        other = copy.copy(self)
        other._follows_task, other._grammar = False, None if schema is None else schema_grammar(schema)
        return other

    def _stop_ids(self) -> frozenset[int]:
        """Return the tokens that end an answer."""
        raise NotImplementedError

    def _constraint(self) -> Constraint | None:
        """Return what keeps answers to the grammar, compiled once; None where answers are free."""
        grammar = self.answer_grammar
        if grammar is None:
            return None
        if self._compiled is None or self._compiled[0] != grammar:
            self._compiled = grammar, self._compile(grammar)
        return self._compiled[1]

    def _compile(self, grammar: str) -> Constraint | None:
        """A model whose tokens can't be held to the grammar of its own task answers freely, and that is said."""
        try:
            return Constraint(grammar, self.tokenizer, self._stop_ids())
        except UsageError as error:
            if not self._follows_task:
                raise
            log.warning("Answers are not held to the schema of the task: %s", error.message)
            return None


def rule_out(logits: Tensor, followers: Sequence[Follower | None]) -> Tensor:
    """Return logits in which the tokens that would leave the grammars are minus infinity.

    Args:
        logits: ``(B, V)``.
        followers: one a row; None for a row whose answer is free, or has ended.
    """
    vocabulary = logits.shape[-1]
    free = np.ones(vocabulary, dtype=bool)
    allowed = np.stack([free if one is None else one.allowed(vocabulary) for one in followers])  # (B, V)
    return logits.masked_fill(torch.from_numpy(~allowed).to(logits.device), float("-inf"))


class Holding:
    """A logits processor of transformers that holds the rows of one batch to a grammar.

    The model's own settings come first: a token that they force (BART's first and last ones) is none of the grammar's, and what would keep
    a whole answer from ending (a least length) is overruled.

    Args:
        constraint: the grammar.
        num_rows: B.
    """

    def __init__(self, constraint: Constraint, num_rows: int) -> None:
        self._followers = [constraint.follow() for _ in range(num_rows)]
        self._chooses = [False] * num_rows  # whether the last token of a row was chosen among those of its grammar

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return the scores ``(B, V)`` of the next tokens; the last of ``input_ids`` ``(B, T)`` were chosen by the scores before."""
        for follower, token, chosen in zip(self._followers, input_ids[:, -1].tolist(), self._chooses, strict=True):
            if chosen and not follower.is_complete:
                follower.take(token)
        held = rule_out(scores, self._followers)
        nothing_left = (held.amax(dim=-1) == float("-inf")).tolist()
        for row, (follower, is_forced) in enumerate(zip(self._followers, nothing_left, strict=True)):
            if is_forced:
                held[row] = rule_out(torch.zeros_like(scores[row : row + 1]), [follower])[0] if follower.is_complete else scores[row]
        self._chooses = [not is_forced for is_forced in nothing_left]
        return held


def _tokens_of(tokenizer: PreTrainedTokenizerBase, stop_ids: tuple[int, ...]) -> LLTokenizer:
    known = _TOKENS.setdefault(tokenizer, {})
    if stop_ids not in known:
        known[stop_ids] = _read_tokens(tokenizer, stop_ids)
    return known[stop_ids]


def _read_tokens(tokenizer: PreTrainedTokenizerBase, stop_ids: tuple[int, ...]) -> LLTokenizer:
    from llguidance.hf import from_tokenizer

    name = type(tokenizer).__name__
    try:
        tokens = from_tokenizer(tokenizer, eos_token=list(stop_ids) or None)
    except ValueError as error:
        reason = str(error).split(":")[0]
        raise UsageError(f"answers can't be held to a grammar with this tokenizer ({name}): {reason}", fix="Use --no-constrain") from error
    if tokens.decode_str(tokens.tokenize_str(_JSON_CHARACTERS)).strip() != _JSON_CHARACTERS:
        raise UsageError(f"this model's tokenizer ({name}) can't write JSON: it has no braces or quotes", fix="Use --no-constrain")
    return tokens


def _first_line(matcher: LLMatcher) -> str:
    return next((line.strip() for line in matcher.get_error().splitlines() if line.strip()), "")
