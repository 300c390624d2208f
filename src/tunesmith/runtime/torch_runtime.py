"""Generating with PyTorch: many prompts in batches, or one as a stream.

The loop is ours and not ``model.generate`` of transformers: rows that have ended leave the batch, draws belong to the prompt and not to
its place in a batch, common beginnings are computed once, and a stream needs no thread. Greedy answers are those of ``model.generate``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tunesmith.data.task_file import TaskRecord
from tunesmith.data.templates import PromptValue, Template
from tunesmith.data.tokenize import encode_texts
from tunesmith.runtime.batches import check_rows, plan_batches
from tunesmith.runtime.decoding import BatchDecoder, Prefix, common_prefix_length
from tunesmith.runtime.engine import Batch
from tunesmith.runtime.protocol import Choice, Likelihood
from tunesmith.runtime.sampling import Sampling
from tunesmith.runtime.text_runtime import Row, TextRuntime

if TYPE_CHECKING:
    import numpy as np
    from torch import nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

#: A common beginning is computed apart when that saves at least so many tokens: it is one more pass through the weights.
_WORTH_SHARING = 64
#: Ended rows leave when they are this part of a batch: taking them out copies the keys and values of the others.
_WORTH_LEAVING = 1 / 8


class TorchRuntime(TextRuntime):
    """A `Runtime` around a PyTorch model.

    Args:
        model: a causal language model of transformers: bare, wrapped by peft, or with other adapters in it. It is not changed: a model
            in training is in training again after each call.
        tokenizer: what belongs to the model.
        template: how prompts become text, and what ends an answer.
        task: what the model was trained to do; by default what the template says of its rows.
    """

    kind = "torch"

    def __init__(self, model: nn.Module, tokenizer: PreTrainedTokenizerBase, template: Template, task: TaskRecord | None = None) -> None:
        super().__init__(tokenizer, template, task)
        self.model = model
        wrapped: Any = model
        self._bare: PreTrainedModel = wrapped.get_base_model() if hasattr(model, "get_base_model") else wrapped
        self._last: Prefix | None = None

    @property
    def context_length(self) -> int | None:
        """The most tokens that prompt and answer may have together; None when the model names no limit."""
        config = self._bare.config.get_text_config(decoder=True)
        length = getattr(config, "max_position_embeddings", None)
        return int(length) if length else None

    def _write(
        self, rows: list[Row], encoded: Sequence[list[int]], sampling: Sampling, *, max_new_tokens: int, batch_size: int | None
    ) -> None:
        batches = plan_batches([len(prompt) for prompt in encoded], max_new_tokens=max_new_tokens, batch_size=batch_size)
        with self._in_evaluation():
            prefix = self._shared_beginning(encoded)
            for batch in batches:
                for _ in self._steps(BatchDecoder(self._bare), [rows[index] for index in batch], encoded, sampling, prefix):
                    pass

    def _grow(self, row: Row, encoded: Sequence[list[int]], sampling: Sampling) -> Iterator[None]:
        """As in `TextRuntime`; keys and values of the last prompt and answer are kept: in a conversation only what is new is computed."""
        decoder = BatchDecoder(self._bare)
        remembered, self._last = self._last, None
        with self._in_evaluation():
            yield from self._steps(decoder, [row], encoded, sampling, remembered)
            if decoder.can_share_prefixes():
                self._last = decoder.as_prefix()

    def with_template(self, template: Template, task: TaskRecord | None = None) -> TorchRuntime:
        """Return a runtime around the same model with another template; see `Runtime.with_template`."""
        return type(self)(self.model, self.tokenizer, template, task)

    def choose(self, prompts: Sequence[PromptValue], labels: Sequence[str] | None = None, *, probabilities: bool = True) -> list[Choice]:
        """Choose among labels by their likelihood as answers; see `Runtime.choose`.

        The label is exactly the likeliest one. Probabilities are the labels' likelihoods divided by their sum, to within 1/1000:
        labels that together weigh less are not scored to the end (see :func:`tunesmith.runtime.choosing.choose`).
        """
        from tunesmith.runtime.choosing import MOST_UNSCORED

        return self._choices(prompts, self._known_labels(labels), most_unscored=MOST_UNSCORED if probabilities else 1.0)

    def _choices(
        self,
        prompts: Sequence[PromptValue],
        known: tuple[str, ...],
        batch_size: int | None = None,
        *,
        most_unscored: float,
    ) -> list[Choice]:
        from tunesmith.runtime.choosing import choose
        from tunesmith.runtime.label_tree import LabelTrees

        encoded = self._encode(prompts)
        trees = LabelTrees(known, self.template, self.tokenizer)
        behind = [trees.behind(prompt) for prompt in prompts]
        for number, (ids, tree) in enumerate(zip(encoded, behind, strict=True), 1):
            self._check_room(len(ids) + tree.depth, f"prompt {number} with its longest label")
        with self._in_evaluation():
            found = choose(
                self._bare,
                encoded,
                behind,
                temperature=self.task.temperature,
                prefix=self._shared_beginning(encoded),
                batch_size=batch_size,
                most_unscored=most_unscored,
            )
        return [Choice((known[best],), tuple(probabilities)) for best, probabilities in found]

    def log_likelihoods(self, pairs: Sequence[tuple[PromptValue, str]]) -> list[Likelihood]:
        """Score given answers; see `Runtime.log_likelihoods`. Texts longer than the context are scored in windows."""
        from tunesmith.runtime.scoring import encode_pairs, log_likelihoods

        rows = encode_pairs(pairs, self.template, self.tokenizer)
        with self._in_evaluation():
            return log_likelihoods(self._bare, rows, context=self.context_length)

    def token_ids(self, text: str) -> list[int]:
        """Return a text as token ids; see `Runtime.token_ids`."""
        return encode_texts([text], self.tokenizer)[0]

    def token_logits(self, rows: Sequence[Sequence[int]]) -> Iterator[np.ndarray]:
        """Yield the logits behind every token of rows, one row after another; see `Runtime.token_logits`."""
        import torch

        check_rows(rows, self.context_length)
        for row in rows:
            # the mode of the model is put back before each yield: whoever reads may train it in between
            with self._in_evaluation(), torch.inference_mode():
                logits = self._bare(input_ids=torch.tensor([list(row)], device=self._bare.device)).logits[0]
            yield logits.float().cpu().numpy()

    def open_row(self, ids: Sequence[int], *, room: int) -> Batch:
        """Read one row of token ids; see `TextRuntime.open_row`."""
        return _OpenRow(self, list(ids))

    def _shared_beginning(self, encoded: Sequence[list[int]]) -> Prefix | None:
        if len(encoded) < 2:
            return None
        length = common_prefix_length([prompt[:-1] for prompt in encoded])
        decoder = BatchDecoder(self._bare)
        if length * (len(encoded) - 1) < _WORTH_SHARING or not decoder.can_share_prefixes():
            return None
        return decoder.prefix(encoded[0][:length])

    def _steps(
        self, decoder: BatchDecoder, rows: list[Row], encoded: Sequence[list[int]], sampling: Sampling, prefix: Prefix | None
    ) -> Iterator[None]:
        """Append tokens to ``rows`` until all have ended; yields after each."""
        self._hold(rows)
        logits = decoder.prefill([encoded[row.index] for row in rows], prefix)
        while True:
            tokens = self._extend(rows, logits, sampling)
            yield
            going = [place for place, row in enumerate(rows) if not row.ended]
            if not going:
                return
            if len(rows) - len(going) >= _WORTH_LEAVING * len(rows):
                decoder.keep(going)
                rows, tokens = [rows[place] for place in going], [tokens[place] for place in going]
            logits = decoder.advance(tokens)

    @contextmanager
    def _in_evaluation(self) -> Iterator[None]:
        """No dropout inside the block; afterwards every module is in the mode it was in."""
        training = [module for module in self.model.modules() if module.training]
        self.model.eval()
        try:
            yield
        finally:
            for module in training:
                module.training = True


class _OpenRow:
    """One row in a model, which grows by a token at a time; see `tunesmith.runtime.engine.Batch`."""

    def __init__(self, runtime: TorchRuntime, ids: list[int]) -> None:
        self._runtime, self._decoder = runtime, BatchDecoder(runtime._bare)
        with runtime._in_evaluation():
            self.logits: np.ndarray = self._decoder.prefill([ids]).float().cpu().numpy()

    def advance(self, tokens: Sequence[int]) -> None:
        with self._runtime._in_evaluation():
            self.logits = self._decoder.advance(tokens).float().cpu().numpy()
