"""What runtimes of models with a head have in common: rows to batches to the head's outputs, and refusing what a head can't do."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from tunesmith.data.head_inputs import encode_for_head, encode_pairs
from tunesmith.data.placeholders import as_text
from tunesmith.data.task_file import TaskRecord
from tunesmith.data.templates import PromptValue, Template
from tunesmith.errors import DataError, UsageError
from tunesmith.models.structure import max_positions
from tunesmith.runtime.batches import plan_batches
from tunesmith.runtime.protocol import Answer, Choice, Likelihood

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase

    from tunesmith.runtime.protocol import Runtime

log = logging.getLogger(__name__)

# Legend: B rows, T tokens.


class HeadRuntime(ABC):
    """A `Runtime` around a model that ends in a head and writes no text; the tasks' own runtimes say what its answers are.

    Args:
        model: a model of transformers with its head, bare or wrapped by peft.
        tokenizer: what belongs to the model.
        task: what it was trained to do, the labels among it.
    """

    kind = "torch"

    def __init__(self, model: nn.Module, tokenizer: PreTrainedTokenizerBase, task: TaskRecord) -> None:
        self.model, self.tokenizer, self.task = model.eval(), tokenizer, task
        self.template = head_template(task)
        self._num_cut = 0

    @property
    def context_length(self) -> int | None:
        """The most tokens of a text that are read: those of training, or the model's positions; the rest is cut off."""
        limits = [limit for limit in (self.task.max_seq_len, max_positions(self.model)) if limit]
        return min(limits, default=None)

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
        """Answer with what the head says, as text; see `Runtime.generate`.

        Raises:
            UsageError: for a temperature: nothing is drawn.
        """
        if temperature or top_p != 1.0:
            name = "temperature" if temperature else "top_p"
            raise UsageError(f"{name} has no effect on a model with a head for {self.task.name}: it draws nothing", fix="Leave it out")
        return [Answer(text, True, 0) for text in self.answers(prompts, batch_size=batch_size)]

    @abstractmethod
    def answers(self, prompts: Sequence[PromptValue], *, batch_size: int | None = None) -> list[str]:
        """Return what the head says of each prompt, as text."""

    def stream(
        self,
        prompt: PromptValue,
        *,
        max_new_tokens: int = 256,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int | None = None,
    ) -> Iterator[str]:
        """Yield the one piece that the answer is; see `Runtime.stream`."""
        yield self.generate([prompt], max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p, seed=seed)[0].text

    def with_template(self, template: Template, task: TaskRecord | None = None) -> Runtime:
        """Refuse: the head reads texts as they are."""
        raise UsageError(f"a model with a head for {self.task.name} reads no template")

    def with_schema(self, schema: Mapping[str, Any] | None) -> Runtime:
        """Refuse: the head writes no text."""
        raise UsageError(f"a model with a head for {self.task.name} writes no text that could fit a schema")

    def choose(self, prompts: Sequence[PromptValue], labels: Sequence[str] | None = None, *, probabilities: bool = True) -> list[Choice]:
        """Refuse: the head scores no labels of whole texts."""
        raise UsageError(f"this model was trained for {self.task.name}, which chooses no label for a text")

    def log_likelihoods(self, pairs: Sequence[tuple[PromptValue, str]]) -> list[Likelihood]:
        """Refuse: there is no text whose tokens could be scored."""
        raise UsageError(f"this model has a head for {self.task.name} and writes no text, so texts have no likelihood")

    def token_ids(self, text: str) -> list[int]:
        """Return a single text as the ids that the head reads; see `Runtime.token_ids`."""
        return encode_for_head([(text,)], self.tokenizer)[0]

    def token_logits(self, rows: Sequence[Sequence[int]]) -> Iterator[np.ndarray]:
        """Refuse: the head says nothing of the next token."""
        raise UsageError(f"this model has a head for {self.task.name} and foresees no tokens, so there are no logits of tokens")

    def texts_of(self, value: PromptValue) -> tuple[str, ...]:
        """Return what the head reads of a prompt, one text a column of training.

        Raises:
            DataError: when columns are missing, or a single text is given for a pair.
        """
        columns = self.task.text_columns or ("text",)
        if isinstance(value, Mapping):
            missing = [column for column in columns if column not in value]
            if missing:
                raise DataError(f"a row has no column '{missing[0]}', which the model was trained on; it has: {', '.join(value)}")
            return tuple(as_text(value[column]) for column in columns)
        if len(columns) > 1:
            named = ", ".join(f'"{column}": "…"' for column in columns)
            raise DataError(f"the model reads several texts ({', '.join(columns)})", fix="Give them by name: {" + named + "}")
        if isinstance(value, str):
            return (value,)
        said = [as_text(message.get("content")) for message in value if message.get("role") == "user"]
        return (said[-1] if said else "",)

    def encode(self, texts: Sequence[tuple[str, ...]]) -> tuple[list[list[int]], list[list[int]]]:
        """Return the token ids of texts (or pairs), and the types of the tokens where the head was trained with them (else nothing).

        What is longer than the model reads loses its end, which is said once.
        """
        encoded, types = self._encode(texts, None)
        limit = self.context_length
        long = [place for place, ids in enumerate(encoded) if limit is not None and len(ids) > limit]
        for whole, cut in zip((encoded, types), self._encode([texts[place] for place in long], limit), strict=True):
            for place, row in zip(long, cut, strict=False):
                whole[place] = row
        if long and not self._num_cut:
            log.warning("Texts longer than %s tokens lose their end: the model was trained on no more.", limit)
        self._num_cut += len(long)
        return encoded, types

    def _encode(self, texts: Sequence[tuple[str, ...]], max_seq_len: int | None) -> tuple[list[list[int]], list[list[int]]]:
        if self.task.token_types:
            return encode_pairs(texts, self.tokenizer, max_seq_len=max_seq_len)
        return encode_for_head(texts, self.tokenizer, max_seq_len=max_seq_len), []

    def outputs(
        self, encoded: Sequence[list[int]], types: Sequence[list[int]] = (), *, batch_size: int | None = None
    ) -> Iterator[tuple[list[int], Tensor, Any]]:
        """Yield for each batch the rows' numbers, the mask ``(B, T)`` of real tokens, and what the model gives.

        Args:
            encoded: token ids of all rows; ``types``: of every token, where the model is to be told.
            batch_size: rows at once.
        """
        device = next(self.model.parameters()).device
        pad = self.tokenizer.pad_token_id or 0
        for batch in plan_batches([len(ids) for ids in encoded], max_new_tokens=0, batch_size=batch_size):
            width = max(1, *(len(encoded[place]) for place in batch))
            ids = _filled([encoded[place] for place in batch], pad, width).to(device)
            more = {"token_type_ids": _filled([types[place] for place in batch], 0, width).to(device)} if types else {}
            lengths = torch.tensor([len(encoded[place]) for place in batch], device=device)
            mask = (torch.arange(width, device=device)[None, :] < lengths[:, None]).long()
            with torch.inference_mode():
                yield batch, mask, self.model(input_ids=ids, attention_mask=mask, **more)

    def check_outputs(self, found: int) -> None:
        """Compare the head's outputs with the labels.

        Raises:
            UsageError: when there are more or fewer.
        """
        if found != len(self.task.labels):
            raise UsageError(f"the head has {found} outputs, but its task.json names {len(self.task.labels)} labels", fix="Train it again")


def _filled(rows: Sequence[list[int]], value: int, width: int) -> Tensor:
    """Return rows filled up at their end with ``value``, ``(B, width)``."""
    return torch.tensor([row + [value] * (width - len(row)) for row in rows], dtype=torch.long)


def head_template(task: TaskRecord) -> Template:
    """Return the columns that a head reads and the one with the right answer, as a template: other rooms ask it for both."""
    columns = task.text_columns or ("text",)
    answer = task.label_column or "label"
    text = "\n".join("{" + column + "}" for column in columns) + "{" + answer + "}"
    return Template(kind="text", text=text, task=task.name, answer_column=answer)
