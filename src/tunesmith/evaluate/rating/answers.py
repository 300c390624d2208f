"""The answers that are rated: made by each model in turn, kept as they come, and not made again after a crash."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from tunesmith.errors import DataError
from tunesmith.evaluate.rating.folder import ANSWERS, Rating, answer_record, read_answers_of
from tunesmith.evaluate.rating.json_log import JsonLog
from tunesmith.evaluate.rating.prompts import RatingPrompt

if TYPE_CHECKING:
    from tunesmith.data.templates import PromptValue, Template
    from tunesmith.runtime.protocol import Runtime

log = logging.getLogger(__name__)

#: Prompts answered between two writes: enough for the runtime to batch prompts of like length.
PROMPTS_AT_ONCE = 32


def make_answers(rating: Rating, load: Callable[[str], Runtime]) -> list[dict[str, str]]:
    """Let every model answer the prompts that it has not answered yet.

    Args:
        rating: what is rated; answers are added to its folder.
        load: from a model's name to something that answers; one model is loaded at a time.

    Returns: for each prompt the answers by model.
    Raises:
        UserError: when a model can't be loaded, or a prompt doesn't fit it.
    """
    answers = read_answers_of(rating)
    for model in rating.models:
        missing = [item for item, given in enumerate(answers, start=1) if model not in given]
        if missing:
            _answer(rating, model, missing, load(model))
            gc.collect()  # the next model takes the memory of this one
    return read_answers_of(rating)


def check_complete(rating: Rating, answers: list[dict[str, str]]) -> None:
    """Check that every model has answered every prompt.

    Raises:
        DataError: naming the first prompt without an answer.
    """
    for item, given in enumerate(answers, start=1):
        for model in rating.models:
            if model not in given:
                raise DataError(
                    f"prompt {item} has no answer of {model}", file=str(rating.folder / ANSWERS), fix="Begin anew in another folder"
                )


def prompt_value(prompt: RatingPrompt, template: Template) -> PromptValue:
    """Return what a runtime is asked: the row where its template was made for such rows, else the conversation, else the text."""
    columns = template.prompt_columns
    if prompt.row is not None and columns and set(columns) <= set(prompt.row):
        return prompt.row
    if template.kind == "chat" and prompt.messages:
        return [dict(message) for message in prompt.messages]
    return prompt.text


def _answer(rating: Rating, model: str, items: list[int], runtime: Runtime) -> None:
    with JsonLog(rating.folder / ANSWERS) as file:
        for start in range(0, len(items), PROMPTS_AT_ONCE):
            chosen = items[start : start + PROMPTS_AT_ONCE]
            values = [prompt_value(rating.prompts[item - 1], runtime.template) for item in chosen]
            for item, answer in zip(chosen, runtime.generate(values, **rating.sampling), strict=True):
                file.append(answer_record(model, item, answer.text, stopped=answer.stopped))
            log.info("%s: %d of %d prompts answered", model, len(rating.prompts) - len(items) + start + len(chosen), len(rating.prompts))
