"""A model that was not tuned here is asked as finetune would ask it: rows are recognized, and become prompts in the same way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tunesmith.data.templates import Template, choose_template
from tunesmith.errors import UsageError

if TYPE_CHECKING:
    from tunesmith.runtime.protocol import Runtime


def suited(runtime: Runtime, rows: Sequence[Mapping[str, Any]], *, text_template: str | None = None) -> Runtime:
    """Return a runtime whose template knows the columns of ``rows``: the same one, when it was trained on columns.

    Args:
        rows: the first rows of a test set.
        text_template: how a row becomes text, for a model that doesn't know.

    Raises:
        UsageError: for a text template where the model knows its own.
        DataError: when the rows' format isn't known.
    """
    if runtime.task.head or not is_untuned(runtime.template):
        if text_template is not None:
            raise UsageError("--text_template has no effect: the model has the template of its training", fix="Leave it out")
        return runtime
    if not rows:
        return runtime
    from datasets import Dataset

    from tunesmith.data.formats import recognize

    columns = list(rows[0])
    form = None if text_template is not None else recognize(Dataset.from_list([dict(row) for row in rows]))
    template = choose_template(form, columns, runtime.tokenizer, text_template=text_template, rows=rows)
    known = runtime.task if runtime.task.name != "text-generation" else None  # a task.json says more than the rows' columns
    return runtime.with_template(template, known)


def is_untuned(template: Template) -> bool:
    """Return whether a template says nothing of columns: it is a chat template alone, or continues any text."""
    return template.format is None and (template.kind == "chat" or template.text == "{text}")
