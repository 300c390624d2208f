"""A head that scores a tag for every word."""

from __future__ import annotations

import json
from collections.abc import Sequence

from tunesmith.data.head_inputs import encode_words, split_words
from tunesmith.data.templates import PromptValue
from tunesmith.runtime.head_runtime import HeadRuntime, log
from tunesmith.runtime.protocol import Span

Words = Sequence[tuple[int, int]]
_PREFIXES = ("B-", "I-", "E-", "S-", "L-", "U-")


class TaggerRuntime(HeadRuntime):
    """A `Runtime` around a token-classification model: its answer to a text is JSON, a list of spans."""

    def tag(self, texts: Sequence[str], words: Sequence[Words] | None = None, *, batch_size: int | None = None) -> list[list[Span]]:
        """Return the spans found in each text, from left to right.

        Args:
            texts: any texts; what is longer than the model reads stays untagged, which is said once.
            words: ``(start, end)`` of each text's words, in characters; by default words and signs, cut as in training.
            batch_size: texts at once.
        """
        cut = [split_words(text) for text in texts] if words is None else words
        tagged = self.tag_words(texts, cut, batch_size=batch_size)
        return [spans_of(tags, places) for tags, places in zip(tagged, cut, strict=True)]

    def tag_words(self, texts: Sequence[str], words: Sequence[Words], *, batch_size: int | None = None) -> list[list[str]]:
        """Return the tag of every word: the likeliest where training learnt it, ``O`` for a word that was cut off."""
        encoded = encode_words(texts, words, self.tokenizer, sub_word=self.task.sub_word, max_seq_len=self.context_length)
        self._say_cut(encoded)
        found: dict[int, list[str]] = {}
        for batch, _, output in self.outputs([ids for ids, _ in encoded], batch_size=batch_size):
            self.check_outputs(output.logits.shape[-1])
            likeliest = output.logits.argmax(dim=-1).tolist()  # (B, T)
            for place, row in zip(batch, likeliest, strict=True):
                found[place] = ["O" if position is None else self.task.labels[row[position]] for position in encoded[place][1]]
        return [found[place] for place in range(len(encoded))]

    def answers(self, prompts: Sequence[PromptValue], *, batch_size: int | None = None) -> list[str]:
        """Return the spans of each prompt as JSON: start, end, label and text of each."""
        texts = [self.texts_of(prompt)[0] for prompt in prompts]
        return [spans_as_json(text, spans) for text, spans in zip(texts, self.tag(texts, batch_size=batch_size), strict=True)]

    def _say_cut(self, encoded: Sequence[tuple[list[int], list[int | None]]]) -> None:
        limit = self.context_length
        num_long = sum(limit is not None and len(ids) >= limit and positions[-1:] == [None] for ids, positions in encoded)
        if num_long and not self._num_cut:
            log.warning("Words beyond the first %s tokens of a text stay untagged: the model was trained on no more.", self.context_length)
        self._num_cut += num_long


def spans_as_json(text: str, spans: Sequence[Span]) -> str:
    """Return spans as JSON, a list of objects with ``start``, ``end``, ``label`` and ``text``."""
    found = [{"start": span.start, "end": span.end, "label": span.label, "text": text[span.start : span.end]} for span in spans]
    return json.dumps(found, ensure_ascii=False)


def spans_of(tags: Sequence[str], words: Words) -> list[Span]:
    """Return the spans that the tags of words say: BIO, IO and BIOES (also called BILOU) are all understood.

    A span goes on while words are inside of the same label; ``B`` and ``S`` (``U``) begin one, ``E`` (``L``) and ``S`` end it. An ``I``
    without a beginning begins one, as conlleval counts it.
    """
    spans: list[Span] = []
    open_label: str | None = None
    for tag, (start, end) in zip(tags, words, strict=True):
        prefix, _, label = tag.partition("-") if tag[:2] in _PREFIXES else ("I", "-", tag)
        if tag == "O":
            open_label = None
            continue
        if open_label == label and prefix in "IEL":
            spans[-1] = Span(spans[-1].start, end, label)
        else:
            spans.append(Span(start, end, label))
        open_label = None if prefix in "ESLU" else label
    return spans
