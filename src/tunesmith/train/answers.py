"""What the model answers to validation prompts, before, while and after it is trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from tunesmith.metrics.protocol import Metric
from tunesmith.train.inputs import Inputs
from tunesmith.train.measure import overall

# Validation rows that --eval_generate answers at each evaluation.
GENERATED_ROWS = 100
# How many answers are shown when nobody says.
SHOWN_ROWS = 3

# (model, tokenizer, template, prompts) -> answers; given by the caller, since generating is no business of training
Answer = Callable[[nn.Module, Any, Any, Sequence[Any]], list[str]]


@dataclass(frozen=True)
class Example:
    """A validation prompt with its reference and the answers before and after training."""

    prompt: str
    reference: str
    before: str
    after: str


class SampleAnswers:
    """Answers to some validation rows; none where nobody can generate them or there is no validation row."""

    def __init__(self, inputs: Inputs, tokenizer: Any, answer: Answer | None, *, shown: int | None) -> None:
        self.inputs, self.tokenizer, self.answer = inputs, tokenizer, answer
        able = answer is not None and inputs.validation is not None and inputs.template is not None
        self.rows = inputs.sample_rows((SHOWN_ROWS if shown is None else shown) if able else 0)

    def of(self, model: nn.Module) -> list[str]:
        """What ``model`` answers now."""
        return self.answer(model, self.tokenizer, self.inputs.template, self.rows) if self.rows and self.answer else []

    def examples(self, before: list[str], after: list[str]) -> list[Example]:
        """Prompts and references with the answers before and after."""
        template = self.inputs.template
        prompts = [template.question(row, self.tokenizer) for row in self.rows] if template else []
        references = [self.inputs.reference(row) for row in self.rows]
        return [Example(*example) for example in zip(prompts, references, before, after, strict=True)]

    def metrics(self, model: nn.Module, asked: Sequence[Metric], *, exact: bool) -> Callable[[], dict[str, float]] | None:
        """Figures of generated answers to some validation rows.

        Args:
            model: what answers.
            asked: metrics that compare texts, or labels written as text.
            exact: the share of exact answers too, for ``--eval_generate``.

        Returns: a function that generates and measures; None where there is nothing to measure.
        """
        rows, answer = self.inputs.sample_rows(GENERATED_ROWS), self.answer
        template = self.inputs.template
        if not rows or answer is None or template is None or not (asked or exact):
            return None
        references = [[reference.strip() for reference in template.answers(row)] for row in rows]

        def score() -> dict[str, float]:
            given = [text.strip() for text in answer(model, self.tokenizer, template, rows)]
            found = {"exact_match": sum(a == r[0] for a, r in zip(given, references, strict=True)) / len(rows)} if exact else {}
            for metric in asked:
                found.update(overall(metric.compute(given, references)))
            return found

        return score
