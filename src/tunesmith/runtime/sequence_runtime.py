"""Generating with encoder-decoders (T5, BART) by transformers' own loop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch

from tunesmith.data.head_inputs import encode_for_head
from tunesmith.data.task_file import TaskRecord
from tunesmith.data.templates import PromptValue, Template
from tunesmith.errors import DataError, UsageError
from tunesmith.runtime.batches import plan_batches
from tunesmith.runtime.constraints import Constrained, Holding
from tunesmith.runtime.known_labels import known_labels
from tunesmith.runtime.protocol import Answer, Choice, Likelihood
from tunesmith.runtime.sampling import Sampling

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# Legend: B rows, S tokens of the longest answer, V vocabulary.


class SequenceRuntime(Constrained):
    """A `Runtime` around an encoder-decoder.

    Args:
        model: of transformers, bare or wrapped by peft.
        tokenizer: what belongs to the model.
        template: how prompts become text.
        task: what the model was trained to do.
    """

    kind = "torch"

    def __init__(self, model: nn.Module, tokenizer: PreTrainedTokenizerBase, template: Template, task: TaskRecord | None = None) -> None:
        self.model, self.tokenizer, self.template = model.eval(), tokenizer, template
        self.task = task or TaskRecord(template.task)
        wrapped: Any = model
        self._bare: PreTrainedModel = wrapped.get_base_model() if hasattr(model, "get_base_model") else wrapped

    @property
    def context_length(self) -> int | None:
        """None: prompt and answer don't share their places; a prompt loses what is beyond the tokens of training."""
        return None

    def with_template(self, template: Template, task: TaskRecord | None = None) -> SequenceRuntime:
        """Return a runtime around the same model with another template."""
        return SequenceRuntime(self.model, self.tokenizer, template, task)

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
        """Answer every prompt, in their order; see `Runtime.generate`. Drawn answers are made one prompt at a time."""
        Sampling(temperature, top_p, seed)  # refuses what is out of range
        if max_new_tokens < 1:
            raise UsageError(f"max_new_tokens is {max_new_tokens}, but an answer has at least one token")
        encoded, constraint = self._encode(prompts), self._constraint()
        size = 1 if temperature else batch_size
        answers: dict[int, Answer] = {}
        for batch in plan_batches([len(ids) for ids in encoded], max_new_tokens=max_new_tokens, batch_size=size):
            held: dict[str, Any] = {} if constraint is None else {"logits_processor": [Holding(constraint, len(batch))]}
            drawing = {"do_sample": True, "temperature": temperature, "top_p": top_p, "top_k": 0} if temperature else {"do_sample": False}
            with torch.inference_mode(), torch.random.fork_rng(enabled=bool(temperature)):
                if temperature and seed is not None:
                    torch.manual_seed(seed)
                made = self._bare.generate(
                    **self._inputs([encoded[place] for place in batch]), max_new_tokens=max_new_tokens, num_beams=1, **drawing, **held
                )
            answers.update((place, self._answer(ids, max_new_tokens)) for place, ids in zip(batch, made.tolist(), strict=True))
        return [answers[place] for place in range(len(encoded))]

    def stream(
        self,
        prompt: PromptValue,
        *,
        max_new_tokens: int = 256,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int | None = None,
    ) -> Iterator[str]:
        """Yield the answer in one piece; see `Runtime.stream`."""
        yield self.generate([prompt], max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p, seed=seed)[0].text

    def choose(self, prompts: Sequence[PromptValue], labels: Sequence[str] | None = None, *, probabilities: bool = True) -> list[Choice]:
        """Choose among labels by their likelihood as answers; see `Runtime.choose`."""
        known = known_labels(self.task, labels)
        found = []
        for prompt in prompts:
            scores = torch.tensor([one.log_prob for one in self.log_likelihoods([(prompt, label) for label in known])])
            chances = (scores / self.task.temperature).softmax(-1)
            found.append(Choice((known[int(chances.argmax())],), tuple(chances.tolist())))
        return found

    def log_likelihoods(self, pairs: Sequence[tuple[PromptValue, str]]) -> list[Likelihood]:
        """Score given answers; see `Runtime.log_likelihoods`."""
        prompts = self._encode([prompt for prompt, _ in pairs])
        answers = [self._ended(ids) for ids in encode_for_head([(answer,) for _, answer in pairs], self.tokenizer)]
        found: dict[int, Likelihood] = {}
        for batch in plan_batches([len(one) + len(other) for one, other in zip(prompts, answers, strict=True)], max_new_tokens=0):
            rows = [torch.tensor(answers[place]) for place in batch]
            labels = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-100).to(self._bare.device)  # (B, S)
            with torch.inference_mode():
                shifted = self._bare.prepare_decoder_input_ids_from_labels(labels=labels)
                logits = self._bare(**self._inputs([prompts[place] for place in batch]), decoder_input_ids=shifted).logits.float()
            found.update(zip(batch, map(_likelihood, logits, labels), strict=True))
        return [found[place] for place in range(len(pairs))]

    def token_ids(self, text: str) -> list[int]:
        """Return a prompt's text as the ids that the encoder reads; see `Runtime.token_ids`."""
        return encode_for_head([(text,)], self.tokenizer)[0]

    def token_logits(self, rows: Sequence[Sequence[int]]) -> Iterator[np.ndarray]:
        """Refuse: prompt and answer are two rows here, see :meth:`log_likelihoods`."""
        raise UsageError("an encoder-decoder reads prompt and answer apart, so one row of tokens has no logits", fix="Ask log_likelihoods")

    def _stop_ids(self) -> frozenset[int]:
        end = self.tokenizer.eos_token_id
        return frozenset() if end is None else frozenset({int(end)})

    def _encode(self, prompts: Sequence[PromptValue]) -> list[list[int]]:
        texts = [self.template.prompt(prompt, self.tokenizer) for prompt in prompts]
        for number, text in enumerate(texts, 1):
            if not text.strip():
                raise DataError("the prompt is empty" if len(texts) == 1 else f"prompt {number} is empty")
        return encode_for_head([(text,) for text in texts], self.tokenizer, max_seq_len=self.task.max_seq_len)

    def _inputs(self, rows: Sequence[list[int]]) -> dict[str, Tensor]:
        tensors = [torch.tensor(ids) for ids in rows]
        ids = torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=int(self.tokenizer.pad_token_id or 0))
        lengths = torch.tensor([len(row) for row in rows])
        mask = (torch.arange(ids.shape[1])[None, :] < lengths[:, None]).long()
        return {"input_ids": ids.to(self._bare.device), "attention_mask": mask.to(self._bare.device)}

    def _ended(self, ids: list[int]) -> list[int]:
        end = self.tokenizer.eos_token_id
        return ids if end is None or ids[-1:] == [end] else [*ids, int(end)]

    def _answer(self, ids: list[int], most: int) -> Answer:
        """The answer without the decoder's start and what fills the batch."""
        end = self.tokenizer.eos_token_id
        body = ids[1:]
        stopped = end in body
        num_tokens = body.index(end) + 1 if stopped else min(len(body), most)
        text = self.tokenizer.decode(body[:num_tokens], skip_special_tokens=True)
        return Answer(str(text).strip(), stopped, num_tokens)


def _likelihood(logits: Tensor, labels: Tensor) -> Likelihood:
    """Of one row: ``(S, V)`` and ``(S,)``."""
    real = labels != -100
    chances = logits[real].log_softmax(dim=-1)
    scored = chances.gather(1, labels[real][:, None]).squeeze(1)
    greedy = bool((chances.argmax(dim=-1) == labels[real]).all())
    return Likelihood(float(scored.double().sum()), int(real.sum()), greedy)
