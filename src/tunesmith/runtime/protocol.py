"""What every runtime offers, whatever computes: PyTorch, ONNX Runtime, llama.cpp."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from tunesmith.data.task_file import TaskRecord
from tunesmith.data.templates import PromptValue, Template

if TYPE_CHECKING:
    import numpy as np
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Answer:
    """What a model said to one prompt.

    Attributes:
        text: the answer without the token or text that ended it, and without the blank that a template has before the answer.
        stopped: whether it ended by itself; False when it was cut by ``max_new_tokens`` or by the end of the model's context.
        num_tokens: tokens generated, the stop token included.
    """

    text: str
    stopped: bool
    num_tokens: int


@dataclass(frozen=True)
class Choice:
    """Which of the known labels fits a prompt.

    Attributes:
        labels: the likeliest label; with a multi-label task every label that counts, perhaps none.
        probabilities: one for each known label, in the order of the task's labels; they add up to 1 except with a multi-label task.
    """

    labels: tuple[str, ...]
    probabilities: tuple[float, ...]


@dataclass(frozen=True)
class Likelihood:
    """How likely a model finds a given answer.

    Attributes:
        log_prob: natural logarithm of the probability of the answer and of what ends it.
        num_tokens: tokens scored, the stop token included.
        greedy: whether greedy decoding would have given just this answer.
    """

    log_prob: float
    num_tokens: int
    greedy: bool


@dataclass(frozen=True)
class Span:
    """A stretch of text with its tag: ``text[start:end]``, in characters."""

    start: int
    end: int
    label: str


class Runtime(Protocol):
    """A loaded model with the template and the stop tokens that belong to it.

    A prompt is a text (it fills the template's only placeholder, or is the user's turn), the columns of a row by name, or a list of
    messages.
    """

    @property
    def kind(self) -> str:
        """What computes: ``torch``, ``onnx``, ``gguf``."""

    @property
    def template(self) -> Template:
        """How a prompt becomes text, and what ends an answer."""

    @property
    def task(self) -> TaskRecord:
        """What the model was trained to do; text generation where nothing says so."""

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer that belongs to the model."""

    @property
    def context_length(self) -> int | None:
        """The most tokens that prompt and answer may have together; None when the model names no limit."""

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
        """Answer every prompt, in their order.

        Args:
            prompts: texts, rows or conversations, mixed as you like.
            max_new_tokens: where an answer that doesn't end by itself is cut.
            temperature: 0 takes the likeliest token; above, tokens are drawn from the distribution sharpened (< 1) or flattened (> 1).
            top_p: draw from the likeliest tokens that together have this probability.
            seed: the same seed and prompt give the same draws, whatever else is in the batch; None draws anew each time.
            batch_size: prompts at once; by default as many as a budget of tokens allows.

        Raises:
            UsageError: for settings outside their range.
            DataError: for a prompt that the template refuses, that is empty or that doesn't fit the model's context.
        """

    def stream(
        self,
        prompt: PromptValue,
        *,
        max_new_tokens: int = 256,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int | None = None,
    ) -> Iterator[str]:
        """Yield the answer to one prompt piece by piece, each as soon as it is certain; joined they are the text of :meth:`generate`.

        Closing the iterator ends the generation. Arguments and errors are those of :meth:`generate`; errors come at the first piece.
        """

    def with_template(self, template: Template, task: TaskRecord | None = None) -> Runtime:
        """Return a runtime around the same model that asks it in another way.

        Args:
            template: how prompts become text, and what ends an answer.
            task: what it is asked to do; by default what the template says of its rows.

        Raises:
            UsageError: for a model with a head, which reads no template.
        """

    def with_schema(self, schema: Mapping[str, Any] | None) -> Runtime:
        """Return a runtime around the same model whose answers are JSON that fits a schema.

        A model that was trained for extraction keeps to the schema in its ``task.json`` without being told. An answer that is cut by
        ``max_new_tokens`` is unfinished JSON, all others fit.

        Args:
            schema: a JSON schema; None lets answers be any text, whatever the task says.

        Raises:
            UsageError: for a schema that answers can't be held to, and for a model with a head, which writes no text.
        """

    def choose(self, prompts: Sequence[PromptValue], labels: Sequence[str] | None = None, *, probabilities: bool = True) -> list[Choice]:
        """Choose for every prompt among known labels; an answer outside of them can't happen.

        Args:
            prompts: as for :meth:`generate`.
            labels: other labels than those of the task (not for a model with a head).
            probabilities: False where the label alone is asked for, which is cheaper; the probabilities are rough then.

        Raises:
            UsageError: when there are no labels to choose from, or the model's task is another one.
        """

    def log_likelihoods(self, pairs: Sequence[tuple[PromptValue, str]]) -> list[Likelihood]:
        """Score given answers: the probability that the prompt of each pair is followed by its answer and then ends."""

    def token_ids(self, text: str) -> list[int]:
        """Return a prompt's text as token ids, by the tokenizer of what computes (not always transformers'), special tokens recognized.

        Two runtimes of one model that differ here don't see the same prompt, whatever their weights are.
        """

    def token_logits(self, rows: Sequence[Sequence[int]]) -> Iterator[np.ndarray]:
        """Yield for each row of T token ids the logits ``(T, V)`` behind each of them, in float32.

        Raises:
            DataError: for a row that is empty or longer than the model's context.
            UsageError: for a model that doesn't continue a row of tokens: one with a head, an encoder-decoder.
        """
