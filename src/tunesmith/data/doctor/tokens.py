"""Rows as the model that is to be trained will see them: what doesn't fit, and how much of it is learnt."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from typing import Any

from tunesmith.data.doctor.checks import Check, Context, Row
from tunesmith.data.doctor.findings import Finding
from tunesmith.data.lengths import choose_max_seq_len
from tunesmith.data.tokenize import IGNORE_INDEX, Segment, encode_examples
from tunesmith.errors import DataError

BATCH_ROWS = 256
#: Less than this share of a row's tokens being learnt makes training slow for what it brings.
LITTLE_LEARNT = 0.01


class Tokens(Check):
    """Tokens of each row, with the template and tokenizer of a model; does nothing when none is named."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._waiting: list[tuple[int, list[list[Segment]]]] = []
        self._index, self._length, self._before, self._learnt = array("q"), array("q"), array("q"), array("q")

    def see(self, row: Row) -> Iterable[Finding]:
        """Render a row, and tokenize when there are enough."""
        template, tokenizer = self.context.template, self.context.tokenizer
        if template is None or tokenizer is None:
            return ()
        try:
            self._waiting.append((row.index, template.examples(row.values, tokenizer)))
        except DataError as error:
            return (row.finding("template_refuses", "error", error.message, error.fix or ""),)
        if len(self._waiting) >= BATCH_ROWS:
            self._tokenize()
        return ()

    def _tokenize(self) -> None:
        assert self.context.tokenizer is not None
        examples = [example for _, found in self._waiting for example in found]
        encoded = iter(encode_examples(examples, self.context.tokenizer))
        for index, found in self._waiting:
            for _ in found:
                ids, labels = next(encoded)
                learnt = len(labels) - labels.count(IGNORE_INDEX)
                first = next((at for at, label in enumerate(labels) if label != IGNORE_INDEX), len(labels))
                for column, value in zip(
                    (self._index, self._length, self._before, self._learnt), (index, len(ids), first, learnt), strict=True
                ):
                    column.append(value)
        self._waiting = []

    def finish(self) -> Iterable[Finding]:
        """Return rows that don't fit, and whether little is learnt."""
        import numpy as np

        if self._waiting:
            self._tokenize()
        if not self._length:
            return
        lengths = np.frombuffer(self._length, dtype=np.int64)
        limit = choose_max_seq_len(lengths.astype(np.int32), self.context.max_seq_len, None)
        for at in np.flatnonzero(lengths > limit):
            length, before = int(lengths[at]), self._before[at]
            if before >= limit:
                check, what = "no_room_for_answer", f"the answer begins at token {before + 1:,}, behind the {limit:,} that a row may have"
            else:
                check, what = "cut_row", f"{length:,} tokens, {length - limit:,} more than a row may have: its end would be cut"
            fix = f"Shorten it, or train with --max_seq_len {length}"
            yield self.context.places.finding(self._index[at], check, "warning", what, fix)
        share = sum(self._learnt) / max(1, int(lengths.sum()))
        if share < LITTLE_LEARNT:
            message = f"{share:.1%} of the tokens are learnt, the rest is prompt"
            yield Finding("little_learnt", "warning", message, "Shorten the prompts, or learn them too: --train_on_prompt")

    def figures(self) -> Mapping[str, Any]:
        """Return lengths in tokens and the share that is learnt."""
        import numpy as np

        if not self._length:
            return {}
        lengths = np.frombuffer(self._length, dtype=np.int64)
        middle, high, most = np.percentile(lengths, (50, 99, 100))
        return {
            "tokens_median": int(middle),
            "tokens_99_percent": int(high),
            "tokens_most": int(most),
            "learnt_share": round(sum(self._learnt) / max(1, int(lengths.sum())), 4),
        }
