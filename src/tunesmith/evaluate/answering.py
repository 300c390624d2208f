"""Rows to predictions: what a model is asked by its task, and in which forms its answers can be measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from tunesmith.data.labels import labels_of_cell
from tunesmith.data.placeholders import as_text
from tunesmith.errors import DataError, UsageError
from tunesmith.evaluate.references import right_texts
from tunesmith.metrics.protocol import Needs

if TYPE_CHECKING:
    from tunesmith.runtime.embedder import EmbedderRuntime
    from tunesmith.runtime.protocol import Likelihood, Runtime

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Prediction:
    """What a model said to one row, in every form that metrics may ask for.

    Attributes:
        shown: what the row asks, as people want to read it.
        text: the answer as text.
        references: the right answers as text.
        forms: prediction and references by what a metric needs.
        stopped: whether the answer ended by itself; False when it was cut.
        num_tokens: tokens generated.
        more: further columns for the file of predictions.
    """

    shown: str
    text: str
    references: list[str]
    forms: Mapping[Needs, tuple[Any, list[Any]]]
    stopped: bool = True
    num_tokens: int = 0
    more: Mapping[str, Any] = field(default_factory=dict)


class Asking(Protocol):
    """A way to ask a model."""

    @property
    def offers(self) -> frozenset[Needs]:
        """What metrics may need."""

    def references(self, row: Row) -> list[str]:
        """Return the right answers that a row holds, none for a row that can't be measured by."""

    def predict(self, rows: Sequence[Row], needs: frozenset[Needs]) -> list[Prediction]:
        """Ask the model for all rows."""


@dataclass(frozen=True)
class Generating:
    """Asks for text, and how likely the right answer is."""

    runtime: Runtime
    max_new_tokens: int = 256
    batch_size: int | None = None
    reference_column: str | None = None

    @property
    def offers(self) -> frozenset[Needs]:
        """Text, which may be a label, and its likelihood; rows of plain text ask nothing, so they have a likelihood alone."""
        template = self.runtime.template
        is_asked = template.kind == "chat" or template.prompt_columns
        return frozenset({"text", "choices", "likelihood"}) if is_asked else frozenset({"likelihood"})

    def references(self, row: Row) -> list[str]:
        """Return the answers in the template's column, or in the one that was named."""
        return right_texts(self.runtime.task, self.runtime.template, row, self.reference_column)

    def predict(self, rows: Sequence[Row], needs: frozenset[Needs]) -> list[Prediction]:
        """Generate greedily, and score the first reference, as far as ``needs`` asks for it."""
        rights = [self.references(row) for row in rows]
        scores: Sequence[Likelihood | None] = [None] * len(rows)
        if "likelihood" in needs:
            scores = self.runtime.log_likelihoods([(row, right[0]) for row, right in zip(rows, rights, strict=True)])
        if needs <= {"likelihood"}:
            return [
                _prediction(self.runtime, row, right[0], right, {"likelihood": (likelihood_pair(score), right)})
                for row, right, score in zip(rows, rights, scores, strict=True)
            ]
        answers = self.runtime.generate(list(rows), max_new_tokens=self.max_new_tokens, batch_size=self.batch_size)
        found = []
        for row, right, answer, score in zip(rows, rights, answers, scores, strict=True):
            text = answer.text.strip()
            forms: dict[Needs, tuple[Any, list[Any]]] = {
                "text": (text, right),
                "choices": (text, right),
                "likelihood": (likelihood_pair(score), right),
            }
            found.append(_prediction(self.runtime, row, text, right, forms, answer.stopped, answer.num_tokens))
        return found


@dataclass(frozen=True)
class Choosing:
    """Asks for one (or several) of the known labels."""

    runtime: Runtime
    labels: tuple[str, ...]
    reference_column: str | None = None

    @property
    def offers(self) -> frozenset[Needs]:
        """Labels, their probabilities, and where the model writes text, the likelihood of the right one."""
        always: frozenset[Needs] = frozenset({"choices", "probabilities", "text"})
        return always if self.runtime.task.head else always | {"likelihood"}

    def references(self, row: Row) -> list[str]:
        """Return the right label of a row, or all that are right."""
        if self.reference_column is not None or self.runtime.task.head:
            return labels_of_cell(row.get(self.reference_column or self.runtime.task.label_column or "label"))
        return [text.strip() for text in self.runtime.template.answers(row)]

    def is_known(self, references: Sequence[str]) -> bool:
        """Return whether a row's right labels are among those that can be chosen."""
        return set(references) <= set(self.labels)

    def predict(self, rows: Sequence[Row], needs: frozenset[Needs]) -> list[Prediction]:
        """Choose among the labels."""
        task = self.runtime.task
        rights = [self.references(row) for row in rows]
        sure = "probabilities" in needs
        choices = self.runtime.choose(list(rows), None if task.head else self.labels, probabilities=sure)
        scores: Sequence[Likelihood | None] = [None] * len(rows)
        if "likelihood" in needs:
            scores = self.runtime.log_likelihoods([(row, right[0]) for row, right in zip(rows, rights, strict=True)])
        found = []
        for row, right, choice, score in zip(rows, rights, choices, scores, strict=True):
            text = ", ".join(choice.labels)
            forms: dict[Needs, tuple[Any, list[Any]]] = {
                "choices": (list(choice.labels) if task.multi_label else text, right),
                "probabilities": (dict(zip(self.labels, choice.probabilities, strict=True)), right),
                "text": (text, [", ".join(right)] if task.multi_label else right),
                "likelihood": (likelihood_pair(score), right),
            }
            more = {"probability": round(max(choice.probabilities), 6)} if sure else None
            found.append(_prediction(self.runtime, row, text, right, forms, more=more))
        return found


@dataclass(frozen=True)
class Comparing:
    """Asks how alike two texts are."""

    runtime: EmbedderRuntime
    reference_column: str | None = None
    offers: frozenset[Needs] = frozenset({"scores"})

    def references(self, row: Row) -> list[str]:
        """Return the label or score of a pair."""
        return labels_of_cell(row.get(self.reference_column or self.runtime.task.label_column or "label"))

    def predict(self, rows: Sequence[Row], needs: frozenset[Needs]) -> list[Prediction]:
        """Return the cosine of each pair."""
        found = []
        for row, cosine in zip(rows, self.runtime.similarities(list(rows)), strict=True):
            right = [_as_number(text) for text in self.references(row)]
            text = f"{cosine:.4f}"
            found.append(_prediction(self.runtime, row, text, self.references(row), {"scores": (cosine, right)}))
        return found


def asking(
    runtime: Runtime,
    *,
    max_new_tokens: int = 256,
    batch_size: int | None = None,
    labels: Sequence[str] = (),
    reference_column: str | None = None,
) -> Asking:
    """Return the way to ask a model by its task.

    Args:
        labels: to choose among, for a model that writes text and knows none itself.

    Raises:
        UsageError: for labels where none are chosen.
    """
    from tunesmith.evaluate.listing import Listing
    from tunesmith.evaluate.tagging import Tagging

    task = runtime.task
    headed: Any = runtime  # by its task it can compare, or tag, whatever computes
    if labels and task.head:
        raise UsageError(f"--labels has no effect on a model with a head for {task.name}", fix="Leave it out")
    if task.head and task.name == "similarity":
        return Comparing(headed, reference_column)
    if task.head and task.name == "token-classification":
        return Tagging(headed, reference_column)
    if task.name == "text-classification" and task.multi_label and not task.head:
        if labels:
            raise UsageError("--labels has no effect on a model that was trained to list labels", fix="Leave it out")
        return Listing(runtime, max_new_tokens, batch_size, reference_column)
    known = tuple(labels) or (task.labels if task.name == "text-classification" else ())
    if known:
        return Choosing(runtime, known, reference_column)
    return Generating(runtime, max_new_tokens, batch_size, reference_column)


def _prediction(
    runtime: Runtime,
    row: Row,
    text: str,
    references: list[str],
    forms: Mapping[Needs, tuple[Any, list[Any]]],
    stopped: bool = True,
    num_tokens: int = 0,
    more: Mapping[str, Any] | None = None,
) -> Prediction:
    return Prediction(shown_of(runtime, row), text, references, forms, stopped, num_tokens, more or {})


def shown_of(runtime: Runtime, row: Row) -> str:
    """Return what a row asks, as people want to read it."""
    columns = runtime.template.prompt_columns
    if runtime.task.head:
        return "\n".join(as_text(row.get(column)) for column in columns)
    return runtime.template.question(row, runtime.tokenizer) if columns or runtime.template.kind == "chat" else ""


def likelihood_pair(score: Likelihood | None) -> list[float] | None:
    """Return what is kept on disk of a likelihood."""
    return None if score is None else [score.log_prob, score.num_tokens]


def _as_number(text: str) -> float:
    words = {"true": 1.0, "false": 0.0}
    try:
        return words[text.lower()] if text.lower() in words else float(text)
    except ValueError as error:
        raise DataError(f"a pair's label must be a number, 1 for alike and 0 for unlike, but one is {text!r}") from error
