"""A runtime of any engine that reads tokens and gives logits: prompts, stops, labels and likelihoods are those of PyTorch's runtime."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from tunesmith.data.task_file import TaskRecord
from tunesmith.data.templates import PromptValue, Template
from tunesmith.runtime.batches import check_rows, plan_batches
from tunesmith.runtime.choosing import MOST_UNSCORED, LabelSearch
from tunesmith.runtime.engine import Batch, Engine, SingleRow
from tunesmith.runtime.label_tree import LabelTrees, Node
from tunesmith.runtime.protocol import Choice, Likelihood
from tunesmith.runtime.sampling import Sampling, check_numbers
from tunesmith.runtime.scoring import Scored, Window, encode_pairs, windows_of
from tunesmith.runtime.stopping import StopRule
from tunesmith.runtime.text_runtime import Row, TextRuntime

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase
    from typing_extensions import Self

# Legend: N positions, V vocabulary.

#: Logits alive at once, in floats: engines give those of every token of a batch of prompts.
_MOST_LOGITS = 2**26


class EngineRuntime(TextRuntime):
    """A `Runtime` around an engine.

    Args:
        engine: what computes.
        tokenizer: of transformers, what belongs to the model.
        template: how prompts become text, and what ends an answer; the stop tokens of the engine's files end it too.
        task: what the model was trained to do; by default what the template says of its rows.
    """

    kind = "engine"

    def __init__(self, engine: Engine, tokenizer: PreTrainedTokenizerBase, template: Template, task: TaskRecord | None = None) -> None:
        super().__init__(tokenizer, template, task)
        self._engine = engine
        self._rule = StopRule(self._rule.token_ids | engine.stop_ids, self._rule.texts)

    @property
    def context_length(self) -> int | None:
        """The most tokens that prompt and answer may have together."""
        return self._engine.context_length

    @property
    def size_bytes(self) -> int:
        """Bytes of the model's files."""
        return self._engine.size_bytes

    def with_template(self, template: Template, task: TaskRecord | None = None) -> Self:
        """Return a runtime around the same model with another template; see `Runtime.with_template`."""
        return type(self)(self._engine, self.tokenizer, template, task)

    def _write(
        self, rows: list[Row], encoded: Sequence[list[int]], sampling: Sampling, *, max_new_tokens: int, batch_size: int | None
    ) -> None:
        for batch in self._batches(encoded, rows, max_new_tokens, batch_size):
            for _ in self._steps([rows[index] for index in batch], encoded, sampling):
                pass

    def _grow(self, row: Row, encoded: Sequence[list[int]], sampling: Sampling) -> Iterator[None]:
        """As in `TextRuntime`; an engine knows what it read last: in a conversation only what is new is computed."""
        return self._steps([row], encoded, sampling)

    def choose(self, prompts: Sequence[PromptValue], labels: Sequence[str] | None = None, *, probabilities: bool = True) -> list[Choice]:
        """Choose among labels by their likelihood as answers; see `Runtime.choose`. As exact as the runtime of PyTorch."""
        return self._choices(prompts, self._known_labels(labels), most_unscored=MOST_UNSCORED if probabilities else 1.0)

    def log_likelihoods(self, pairs: Sequence[tuple[PromptValue, str]]) -> list[Likelihood]:
        """Score given answers; see `Runtime.log_likelihoods`. Texts longer than the context are scored in windows."""
        rows = encode_pairs(pairs, self.template, self.tokenizer)
        return [self._likelihood(number, row) for number, row in enumerate(rows)]

    def token_ids(self, text: str) -> list[int]:
        """Return a text as token ids, by the engine's own tokenizer; see `Runtime.token_ids`."""
        return self._engine.encode(text)

    def token_logits(self, rows: Sequence[Sequence[int]]) -> Iterator[np.ndarray]:
        """Yield the logits behind every token of rows, one row after another; see `Runtime.token_logits`."""
        check_rows(rows, self.context_length)
        for row in rows:
            yield self._engine.read(row, num_logits=len(row))

    def open_row(self, ids: Sequence[int], *, room: int) -> Batch:
        """Read one row of token ids; see `TextRuntime.open_row`."""
        return SingleRow(self._engine, ids, room=room)

    def _batches(
        self, encoded: Sequence[list[int]], rows: Sequence[Row], max_new_tokens: int, batch_size: int | None
    ) -> Iterator[list[int]]:
        """Yield numbers of rows that are answered together: as planned, but no more than the engine takes or logits have room for."""
        lengths = [len(ids) for ids in encoded]
        for planned in plan_batches(lengths, max_new_tokens=max_new_tokens, batch_size=batch_size):
            width = lengths[planned[0]]  # the longest comes first
            most = min(self._engine.most_rows, max(1, _MOST_LOGITS // (len(self.tokenizer) * width)))
            if self.context_length is not None and width + max(rows[index].most for index in planned) > self.context_length:
                most = 1  # the padding of a shorter row would take the room of its answer
            for start in range(0, len(planned), most):
                yield planned[start : start + most]

    def _open(self, texts: Sequence[list[int]], *, room: int) -> Batch:
        return SingleRow(self._engine, texts[0], room=room) if len(texts) == 1 else self._engine.open(texts, room=room)

    def _steps(self, rows: list[Row], encoded: Sequence[list[int]], sampling: Sampling) -> Iterator[None]:
        """Append tokens to ``rows`` until all have ended; yields after each."""
        self._hold(rows)
        batch = self._open([encoded[row.index] for row in rows], room=max(row.most for row in rows))
        while True:
            tokens = self._extend(rows, torch.from_numpy(batch.logits), sampling)
            yield
            if all(row.ended for row in rows):
                return
            # Rows that have ended stay: an engine that read the others anew would not compute just what it computed before.
            batch.advance(tokens)

    def _choices(
        self, prompts: Sequence[PromptValue], known: tuple[str, ...], batch_size: int | None = None, *, most_unscored: float
    ) -> list[Choice]:
        plan_batches([], max_new_tokens=0, batch_size=batch_size)  # refuses what is out of range
        encoded = self._encode(prompts)
        trees = LabelTrees(known, self.template, self.tokenizer)
        behind = [trees.behind(prompt) for prompt in prompts]
        for number, (ids, tree) in enumerate(zip(encoded, behind, strict=True), 1):
            self._check_room(len(ids) + tree.depth, f"prompt {number} with its longest label")
        found: list[Choice] = []
        for ids, tree in zip(encoded, behind, strict=True):
            search = LabelSearch(self.task.temperature, most_unscored)
            self._search(search, ids, tree)
            best = min(search.scored, key=lambda label: (-search.scored[label], label))
            found.append(Choice((known[best],), tuple(search.probabilities(len(known)))))
        return found

    def _search(self, search: LabelSearch, prompt: list[int], tree: Node) -> None:
        """Score labels behind one prompt until the search is decided: the prompt is read once, each node behind it."""
        first = [child.tokens[0] for child in tree.children]
        values = _log_probs(self._engine.read(prompt, room=tree.depth), [(0, token) for token in first])
        search.enter(tree, 0.0, dict(zip(first, values, strict=True)))
        while wanted := search.take_wanted():
            for log_prob, node in wanted:
                num_new = len(node.fed) - len(node.path)
                logits = self._engine.read([*prompt, *node.fed], num_logits=num_new, room=tree.depth - len(node.fed))
                own = list(enumerate(node.tokens[1:]))
                first = [child.tokens[0] for child in node.children]
                values = _log_probs(logits, own + [(num_new - 1, token) for token in first])
                following = dict(zip(first, values[len(own) :], strict=True))
                search.enter(node, log_prob + sum(values[: len(own)]), following)

    def _likelihood(self, number: int, row: Scored) -> Likelihood:
        log_prob, greedy = 0.0, True
        for window in windows_of(number, row, self.context_length):
            for logits, tokens in self._portions(row, window):
                scored = torch.from_numpy(logits)
                chosen = scored.gather(-1, tokens[:, None])[:, 0]
                totals = scored.logsumexp(dim=-1)
                check_numbers(totals)
                log_prob += float((chosen - totals).double().sum())
                greedy &= bool((scored.argmax(dim=-1) == tokens).all())
        return Likelihood(log_prob, len(row.ids) - row.first, greedy)

    def _portions(self, row: Scored, window: Window) -> Iterator[tuple[np.ndarray, Any]]:
        """Yield logits ``(N, V)`` with the tokens ``(N,)`` that follow, for the scored tokens of a window, as many as there is room for."""
        most = max(1, _MOST_LOGITS // len(self.tokenizer))
        for start in range(window.first, window.end, most):
            end = min(start + most, window.end)
            logits = self._engine.read(row.ids[window.start : end - 1], num_logits=end - start, room=window.end - end)
            yield logits, torch.tensor(row.ids[start:end])


def _log_probs(logits: np.ndarray, asked: Sequence[tuple[int, int]]) -> list[float]:
    """Return log-probabilities of (position, token) pairs by logits ``(N, V)``."""
    values = torch.from_numpy(logits)
    totals = values.logsumexp(dim=-1)
    check_numbers(totals)
    places, tokens = [place for place, _ in asked], [token for _, token in asked]
    return [float(value) for value in (values[places, tokens] - totals[places]).double().tolist()]
