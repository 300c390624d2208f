"""A head on top of a model, for tasks that write no text: new weights, so they are trained and saved whole whatever the method."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from tunesmith.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from tunesmith.methods.protocol import Method


def train_head(method: Method, model: PreTrainedModel) -> Method:
    """Return ``method`` training the head of ``model`` too, beside its adapter.

    Raises:
        ModelError: for a method that can't save whole modules.
    """
    from tunesmith.models.heads import head_modules

    names = tuple(head_modules(model))
    if not names or not method.saves_adapter:  # whole weights hold the head anyway
        return method
    if not hasattr(method, "modules_to_save"):
        raise ModelError(f"--method {method.name} can't train the head that this task needs", fix="Use --method lora or full.")
    changed: Method = dataclasses.replace(method, modules_to_save=(*method.modules_to_save, *names))  # type: ignore[type-var]
    return changed
