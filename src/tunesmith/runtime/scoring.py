"""How likely a model finds given answers: exact sums of token log-probabilities, in batches, over text of any length.

What is longer than the model's context: an answer of up to half a context is scored behind as much of its prompt's end as there is room
for. A longer one is scored in windows that overlap by half, so that every token but those of the first window sees at least half a context
before it (the sliding window of https://huggingface.co/docs/transformers/perplexity, stride = context / 2).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunesmith.data.templates import PromptValue, Template
from tunesmith.data.tokenize import IGNORE_INDEX, Segment, encode_examples, merge_segments
from tunesmith.runtime.batches import plan_batches
from tunesmith.runtime.decoding import BatchDecoder
from tunesmith.runtime.protocol import Likelihood
from tunesmith.runtime.sampling import check_numbers

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# Legend: B rows, N columns, V vocabulary.

#: Logits alive at once, in floats: 256 MB in float32. A batch shrinks, or its answers are scored in portions, to stay below.
_MOST_LOGITS = 2**26


@dataclass(frozen=True)
class Scored:
    """Token ids, and from which position on they are the answer.

    Attributes:
        ids: prompt and answer.
        first: position of the first token to be scored; at least 1, since nothing foresees the first token of a text.
    """

    ids: list[int]
    first: int


def encode_pairs(pairs: Sequence[tuple[PromptValue, str]], template: Template, tokenizer: PreTrainedTokenizerBase) -> list[Scored]:
    """Return prompts with answers as token ids: those that training sees for a row with this answer."""
    written = [template.with_answer(prompt, answer, tokenizer) for prompt, answer in pairs]
    examples = [merge_segments([Segment(prompt, False), Segment(answer, True)]) for prompt, answer in written]
    return [Scored(ids, _first_learnt(labels)) for ids, labels in encode_examples(examples, tokenizer)]


def _first_learnt(labels: Sequence[int]) -> int:
    return next((place for place, label in enumerate(labels) if label != IGNORE_INDEX), len(labels))


@dataclass(frozen=True)
class Window:
    """Part of a text: positions ``start`` to ``end``, of which those from ``first`` on are scored."""

    row: int
    start: int
    end: int
    first: int


def log_likelihoods(model: PreTrainedModel, rows: Sequence[Scored], *, context: int | None) -> list[Likelihood]:
    """Score the answers of rows.

    Args:
        model: a causal language model in evaluation mode.
        rows: token ids of any length.
        context: the most tokens that the model sees at once; None for no limit.
    """
    windows = [window for number, row in enumerate(rows) for window in windows_of(number, row, context)]
    log_probs, greedy = [0.0] * len(rows), [True] * len(rows)
    for batch in plan_batches([window.end - window.start for window in windows], max_new_tokens=0):
        chosen = [windows[place] for place in batch]
        for window, (log_prob, is_greedy) in zip(chosen, _score(model, rows, chosen), strict=True):
            log_probs[window.row] += log_prob
            greedy[window.row] &= is_greedy
    counts = [len(row.ids) - row.first for row in rows]
    return [Likelihood(*values) for values in zip(log_probs, counts, greedy, strict=True)]


def windows_of(number: int, row: Scored, context: int | None) -> Iterator[Window]:
    """Yield the windows of row ``number`` that hold tokens to be scored."""
    length = len(row.ids)
    if row.first >= length:
        return
    if context is None or length <= context:
        yield Window(number, 0, length, row.first)
        return
    if length - row.first <= context // 2:
        yield Window(number, length - context, length, row.first)
        return
    scored = row.first
    for start in range(0, length, max(1, context // 2)):
        end = min(start + context, length)
        if end > scored:
            yield Window(number, start, end, scored)
            scored = end
        if end == length:
            return


def _score(model: PreTrainedModel, rows: Sequence[Scored], windows: Sequence[Window]) -> list[tuple[float, bool]]:
    """Return the sum of log-probabilities of each window's scored tokens, and whether each of them was the likeliest."""
    num_scored = [window.end - window.first for window in windows]
    most = max(num_scored)
    vocabulary = model.config.get_text_config(decoder=True).vocab_size
    decoder = BatchDecoder(model)
    texts = [rows[window.row].ids[window.start : window.end] for window in windows]
    sums, greedy = [0.0] * len(windows), [True] * len(windows)
    column = 0
    for logits, tokens in decoder.score(texts, most, most_columns=max(1, _MOST_LOGITS // (vocabulary * len(windows)))):
        log_probs, likeliest = _token_scores(logits, tokens)
        for place, count in enumerate(num_scored):
            begin = max(0, most - count - column)  # rows are aligned at their ends: shorter answers begin later
            check_numbers(log_probs[place, begin:].exp())  # a token that is excluded has a logarithm of minus infinity
            sums[place] += float(log_probs[place, begin:].sum())
            greedy[place] &= bool(likeliest[place, begin:].all())
        column += tokens.shape[1]
    return list(zip(sums, greedy, strict=True))


def _token_scores(logits: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Return the log-probabilities ``(B, N)`` of tokens, in float64, and whether each is the likeliest."""
    chosen = logits.gather(-1, tokens[..., None])[..., 0].float()
    # columns of rows that are padded there are not numbers with some kernels; they are not looked at
    return (chosen - logits.float().logsumexp(dim=-1)).double().cpu(), (logits.argmax(dim=-1) == tokens).cpu()
