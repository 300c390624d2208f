"""Which task a run is for, and which of its options belong to that task."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from tunesmith.config.finetune import FinetuneOptions
from tunesmith.data.formats import Format, is_label_name
from tunesmith.data.labels import labels_of_cell, sort_labels
from tunesmith.data.placeholders import unescape
from tunesmith.data.splits import MOST_LABELS
from tunesmith.data.task_file import TASK_NAMES, TaskRecord
from tunesmith.data.templates import Template
from tunesmith.data.text_templates import take_apart
from tunesmith.errors import DataError, UsageError, nearest
from tunesmith.metrics import load_metric
from tunesmith.metrics.protocol import Metric
from tunesmith.tasks.protocol import Columns, Task
from tunesmith.train.answer_schema import answer_schema

if TYPE_CHECKING:
    from datasets import Dataset

#: Tasks that no model without a head can do.
HEAD_TASKS = ("token-classification", "similarity")
#: Options of text that a head doesn't listen to: it reads columns as they are and writes nothing.
_TEXT_ONLY = (
    "text_template",
    "text_field",
    "use_chat_template",
    "chat_template",
    "train_on_prompt",
    "show_examples",
    "eval_generate",
    "show_answers",
)


def check_task_options(options: FinetuneOptions, explicit: Collection[str]) -> None:
    """Refuse an unknown task, and task options that can't belong together whatever the data.

    Raises:
        UsageError: naming them.
    """
    if options.task is not None and options.task not in TASK_NAMES:
        fix = nearest(options.task, TASK_NAMES) or "A name of your own for the run is --task_name."
        raise UsageError(f"--task {options.task} is unknown; known: {', '.join(TASK_NAMES)}", fix=fix)
    if options.head and options.task not in (None, "text-classification", *HEAD_TASKS):
        raise UsageError(f"--head scores labels, --task {options.task} writes text", fix="Leave --head out, or use text-classification.")
    if (options.loss == "distillation") is not (options.teacher is not None):
        lacking = "--teacher, the model to learn from" if options.teacher is None else "--loss distillation"
        raise UsageError(f"{'--loss distillation' if options.teacher is None else '--teacher'} needs {lacking}", fix="Give both.")
    if options.task in HEAD_TASKS or options.head:
        _refuse(_TEXT_ONLY, explicit, f"--task {options.task}" if options.task in HEAD_TASKS else "--head")


def choose_task(options: FinetuneOptions, explicit: Collection[str], form: Format | None) -> tuple[str, bool]:
    """Return the task, as asked for or as the rows suggest, and whether it ends in a head.

    Raises:
        UsageError: for options without effect on it.
    """
    suggested = form.task if form is not None else _task_of_template(options.text_template)
    name = options.task or ("text-classification" if options.head else suggested)
    head = name in HEAD_TASKS or options.head
    what = f"the task {name}" + (" with a head" if head and name not in HEAD_TASKS else "")
    if head:
        _refuse(_TEXT_ONLY, explicit, what)
    if name != "text-classification":
        _refuse(("class_weights",), explicit, what)
    if name != "similarity":
        _refuse(("pooling",), explicit, what)
    if name != "extraction":
        _refuse(("answer_schema",), explicit, what)
    return name, head


def _task_of_template(text_template: str | None) -> str:
    """The task that a template suggests: choosing labels where it ends in a column that is called so; its values have the last word."""
    try:
        parts = take_apart(unescape(text_template or ""))
    except DataError:  # said with the columns there are, when the template is chosen
        return "text-generation"
    return "text-classification" if parts.prompt_columns and is_label_name(parts.answer) else "text-generation"


def check_encoder_decoder(options: FinetuneOptions, explicit: Collection[str], *, head: bool) -> None:
    """Refuse what isn't done with encoder-decoders.

    Raises:
        UsageError: naming it.
    """
    if head:
        raise UsageError("an encoder-decoder takes no head here: it reads a text and writes one", fix="Give an encoder or a decoder.")
    if options.method not in ("lora", "dora", "full"):
        raise UsageError(f"--method {options.method} is not for encoder-decoders", fix="Use lora, dora or full.")
    _refuse(("use_chat_template", "chat_template", "train_on_prompt", "show_examples"), explicit, "an encoder-decoder")


def columns_of(form: Format, name: str) -> Columns:
    """Return which columns a task with a head reads.

    Raises:
        DataError: when the rows aren't of its kind.
    """
    texts = form.prompt_columns
    fits = {
        "text-classification": not form.is_conversation and form.answer_column is not None and len(texts) in (1, 2),
        "token-classification": form.name in ("tokens-tags", "text-spans"),
        "similarity": form.name == "text-pair",
    }
    if not fits[name] or form.answer_column is None:
        wanted = {
            "text-classification": "a text (or two) and a label: text, label",
            "token-classification": "tokens and tags, or a text and spans: tokens, tags",
            "similarity": "two texts and a label or score: text1, text2, label",
        }[name]
        found = ", ".join(column for _, column in form.columns)
        raise DataError(
            f"--task {name} needs rows with {wanted}; these are {form.name} rows ({found})", fix="Rename: --map_columns OLD=NEW"
        )
    return Columns(texts, form.answer_column)


def text_task(name: str, options: FinetuneOptions, template: Template, rows: Dataset, *, listed: tuple[str, ...] = ()) -> TaskRecord:
    """Return the record of a task that is learnt as text.

    Args:
        name: the task.
        options: ``task``, None when the rows suggested it; ``answer_schema``.
        template: how a row becomes text; it knows the column of the answer.
        rows: the training rows, whose labels are the ones there are to choose from.
        listed: all labels, in their order, where rows have lists of them.
    """
    column = template.answer_column
    if name == "extraction":
        return TaskRecord(name=name, label_column=column, schema=answer_schema(options.answer_schema, template, rows))
    if name != "text-classification" or column is None:
        return TaskRecord(name=name, label_column=column)
    if listed:
        return TaskRecord(name=name, labels=listed, multi_label=True, label_column=column)
    labels = sort_labels({label for value in rows[column] for label in labels_of_cell(value)})
    if options.task is None and (len(labels) > MOST_LABELS or len(labels) == len(rows)):  # answers that never repeat are no labels
        return TaskRecord(label_column=column)
    return TaskRecord(name=name, labels=labels, label_column=column)


def metrics_of(options: FinetuneOptions, task: Task, *, validated: bool) -> list[Metric]:
    """Return the metrics of ``--eval_metrics``.

    Args:
        validated: whether there are validation rows.

    Raises:
        UsageError: for unknown ones, and those that need what the task doesn't give.
    """
    metrics = [load_metric(name) for name in options.eval_metrics or ()]
    if metrics and not validated:
        raise UsageError("--eval_metrics needs validation rows, and there are none", fix="Name some with --eval_split.")
    for metric in metrics:
        if metric.needs not in task.gives:
            message = (
                f"--eval_metrics {metric.name} compares {metric.needs}, evaluations of {task.record.name} give {' and '.join(task.gives)}"
            )
            raise UsageError(message, fix="Leave it out; tunesmith evaluate has more of them.")
    return metrics


def _refuse(names: Collection[str], explicit: Collection[str], what: str) -> None:
    idle = [f"--{name}" for name in names if name in explicit]
    if idle:
        raise UsageError(f"{', '.join(idle)} {'have' if len(idle) > 1 else 'has'} no effect on {what}", fix="Leave it out.")
