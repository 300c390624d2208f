"""The one set of rows that every stage of an export is scored on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tunesmith.data.labels import labels_of_cell
from tunesmith.data.templates import PromptValue, Template
from tunesmith.errors import DataError
from tunesmith.evaluate.finished_run import spread
from tunesmith.evaluate.forgetting import QUESTIONS, documentation
from tunesmith.evaluate.judge import FEWEST_ROWS, MOST_GENERATED_TOKENS, answer_room, main_metric

if TYPE_CHECKING:
    from tunesmith.runtime.protocol import Runtime

Row = Mapping[str, Any]

#: Rows that are scored, spread evenly over all.
MOST_ROWS = 100
#: Paragraphs of the standard library's documentation, where there are no rows.
_PARAGRAPHS = 60
_QUESTION_TOKENS = 48
#: Plain text: what a model is scored on that was tuned on nothing.
PLAIN = Template(kind="text", text="{text}", answer_column="text")
#: Metrics that say little of a single answer, so that perplexity decides in their place.
_VAGUE = frozenset({"rouge", "perplexity"})


@dataclass(frozen=True)
class EvaluationSet:
    """What every stage is asked.

    Attributes:
        pairs: prompts with right answers, whose tokens are scored.
        plain: whether ``pairs`` are text without a prompt, which is scored by the template `PLAIN`.
        asked: what is answered greedily.
        measured: rows for the task's metric; as ``asked`` where there are right answers, else none.
        metric: the metric of the task that decides; None where perplexity does.
        max_new_tokens: where an answer is cut.
        words: where the rows come from.
    """

    pairs: tuple[tuple[PromptValue, str], ...]
    plain: bool
    asked: tuple[PromptValue, ...]
    measured: tuple[Row, ...]
    metric: str | None
    max_new_tokens: int
    words: str

    @property
    def metric_decides(self) -> bool:
        """Whether a lost answer can be told from a kept one."""
        return self.metric is not None and self.metric not in _VAGUE


def evaluation_set(reference: Runtime, rows: Sequence[Row], *, max_rows: int = MOST_ROWS) -> EvaluationSet:
    """Return what every stage is asked.

    Args:
        reference: the tuned model, whose task and template say how rows are read.
        rows: held out of training; where there are none, text of the standard library stands in.
        max_rows: most rows, spread evenly.

    Raises:
        DataError: for rows of which none has a right answer, and when there is nothing at all to score on.
    """
    task, template = reference.task, reference.template
    chosen = spread(rows, max_rows)
    if task.head:
        return _for_head(reference, chosen, max_rows)
    if not chosen:
        return _general(reference, max_rows)
    pairs = [(row, answers[0]) for row in chosen if (answers := _answers(reference, row))]
    if not pairs:
        named = template.answer_column or "the answer"
        raise DataError(
            f"no row has a right answer: column '{named}' is missing or empty; there is: {', '.join(chosen[0])}",
            fix="Name rows with the columns of training: --data_files FILE",
        )
    answered = [row for row, _ in pairs]
    if template.kind == "text" and not template.prompt_columns:  # rows of plain text ask nothing
        return EvaluationSet(tuple(pairs), False, (), (), None, 1, _counted(len(pairs)))
    room = answer_room(reference, template, answered)
    asked = tuple(spread(answered, max(FEWEST_ROWS, MOST_GENERATED_TOKENS // room)))
    metric = main_metric(task, template, answered)
    return EvaluationSet(tuple(pairs), False, asked, asked, metric, room, _counted(len(pairs), len(asked)))


def _answers(reference: Runtime, row: Row) -> list[str]:
    return [text.strip() for text in reference.template.answers(row) if text.strip()]


def _counted(num_rows: int, num_asked: int | None = None) -> str:
    asked = f", of which {num_asked:,} were answered" if num_asked is not None and num_asked < num_rows else ""
    return f"{num_rows:,} held-out row{'s' if num_rows != 1 else ''}{asked}"


def _general(reference: Runtime, max_rows: int) -> EvaluationSet:
    """Without rows: paragraphs of documentation to score, questions to answer."""
    paragraphs = spread(documentation(), min(_PARAGRAPHS, max_rows))
    pairs = tuple(({"text": text}, text) for text in paragraphs)
    template = reference.template
    is_asked = template.kind == "chat" or len(template.prompt_columns) == 1
    words = f"{len(pairs)} paragraphs of the standard library's documentation, since no rows were named"
    return EvaluationSet(pairs, True, QUESTIONS if is_asked else (), (), None, _QUESTION_TOKENS, words)


def _for_head(reference: Runtime, rows: Sequence[Row], max_rows: int) -> EvaluationSet:
    task = reference.task
    if not rows:
        columns = task.text_columns or ("text",)
        texts = spread(documentation(), min(_PARAGRAPHS, max_rows))
        shifted = [texts[place:] + texts[:place] for place in range(len(columns))]  # the texts of a pair are two
        made = tuple(dict(zip(columns, values, strict=True)) for values in zip(*shifted, strict=True))
        words = f"{len(made)} paragraphs of the standard library's documentation, since no rows were named"
        return EvaluationSet((), False, made, (), None, 1, words)
    return EvaluationSet((), False, tuple(rows), _labelled(reference, rows), _head_metric(reference, rows), 1, _counted(len(rows)))


def _labelled(reference: Runtime, rows: Sequence[Row]) -> tuple[Row, ...]:
    if reference.task.name == "token-classification":  # a text without any span is a right answer too
        return tuple(rows)
    return tuple(row for row in rows if labels_of_cell(row.get(reference.task.label_column or "label")))


def _head_metric(reference: Runtime, rows: Sequence[Row]) -> str:
    """Return the metric of a head; pairs with grades instead of yes and no are ranked."""
    task = reference.task
    metric = main_metric(task, None, rows)
    if metric != "threshold_accuracy":
        return metric
    found = {str(row.get(task.label_column or "label")).lower() for row in rows}
    return metric if found <= {"0", "1", "0.0", "1.0", "true", "false"} else "spearman"
