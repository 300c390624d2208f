"""A head that scores labels of whole texts."""

from __future__ import annotations

from collections.abc import Sequence

from tunesmith.data.templates import PromptValue
from tunesmith.errors import UsageError
from tunesmith.runtime.head_runtime import HeadRuntime
from tunesmith.runtime.protocol import Choice
from tunesmith.runtime.sampling import check_numbers


class ClassifierRuntime(HeadRuntime):
    """A `Runtime` around a sequence-classification model: its answer to a text is the label, or the labels joined by commas."""

    def answers(self, prompts: Sequence[PromptValue], *, batch_size: int | None = None) -> list[str]:
        """Return the label of each prompt; where several can be right, all that count, joined by commas."""
        return [", ".join(choice.labels) for choice in self._choices(prompts, batch_size)]

    def choose(self, prompts: Sequence[PromptValue], labels: Sequence[str] | None = None, *, probabilities: bool = True) -> list[Choice]:
        """Return the labels and the probabilities that the head gives them, tempered as the task says; see `Runtime.choose`.

        Raises:
            UsageError: for labels other than the head's.
        """
        if labels is not None and tuple(labels) != self.task.labels:
            fix = f"Its labels are: {', '.join(self.task.labels[:10])}{' …' if len(self.task.labels) > 10 else ''}"
            raise UsageError("a model with a head chooses among the labels it was trained on, not others", fix=fix)
        return self._choices(prompts, None)

    def _choices(self, prompts: Sequence[PromptValue], batch_size: int | None) -> list[Choice]:
        encoded, types = self.encode([self.texts_of(prompt) for prompt in prompts])
        found: dict[int, Choice] = {}
        for batch, _, output in self.outputs(encoded, types, batch_size=batch_size):
            logits = output.logits.float() / self.task.temperature  # (B, labels)
            self.check_outputs(logits.shape[-1])
            check_numbers(logits)
            chances = logits.sigmoid() if self.task.multi_label else logits.softmax(dim=-1)
            for place, row in zip(batch, chances.double().tolist(), strict=True):
                found[place] = self._choice(row)
        return [found[place] for place in range(len(encoded))]

    def _choice(self, probabilities: list[float]) -> Choice:
        labels = self.task.labels
        if self.task.multi_label:
            threshold = 0.5 if self.task.threshold is None else self.task.threshold
            named = tuple(label for label, chance in zip(labels, probabilities, strict=True) if chance >= threshold)
            return Choice(named, tuple(probabilities))
        return Choice((labels[max(range(len(labels)), key=lambda place: probabilities[place])],), tuple(probabilities))
