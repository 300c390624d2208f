"""How a model is asked when nothing of a training is stored with it: by its own chat template, or not at all."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.data.conversations import end_of_turn
from tunesmith.data.task_file import TaskRecord
from tunesmith.data.templates import Template
from tunesmith.models.sources import ModelSource
from tunesmith.runtime.places import Places, stored_task, stored_template

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger(__name__)


def untuned_template(tokenizer: PreTrainedTokenizerBase, model: nn.Module | None = None, *, stop_ids: Iterable[int] = ()) -> Template:
    """Return the template of a model that was not tuned here: its chat template, or none at all (the prompt is continued).

    Args:
        tokenizer: where the chat template comes from.
        model: whose generation settings may name more stop tokens.
        stop_ids: more of them, by other files.
    """
    more = _names([*_stop_ids_of(model), *stop_ids], tokenizer)
    chat_template = getattr(tokenizer, "chat_template", None)
    if not chat_template:
        log.info("The model brings no chat template, and none is stored with it: prompts are continued as plain text.")
        return Template(kind="text", text="{text}", answer_column="text", stop_tokens=more)
    stop = end_of_turn(tokenizer, str(chat_template))
    stops = tuple(dict.fromkeys([*([stop] if stop else []), *more]))
    return Template(kind="chat", chat_template=str(chat_template), stop_tokens=stops)


def export_record(folder: Path, tokenizer: PreTrainedTokenizerBase, stop_ids: Iterable[int]) -> tuple[Template, TaskRecord | None]:
    """Return the template and the task that are stored in an exported folder, the model's own where there are none.

    Args:
        folder: of an export.
        tokenizer: from it.
        stop_ids: what ends an answer by the files that its engine reads.

    Raises:
        ModelError: for a template or a task that can't be read.
    """
    places = Places(ModelSource(str(folder), "folder", folder))
    template = stored_template(places) or untuned_template(tokenizer, stop_ids=sorted(stop_ids))
    return template, stored_task(places)


def _stop_ids_of(model: nn.Module | None) -> list[int]:
    ids = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    return [ids] if isinstance(ids, int) else list(ids or ())


def _names(ids: list[int], tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(token) for token in tokenizer.convert_ids_to_tokens(ids) if token is not None))
