"""Tokens that were added to a tokenizer: rows for them in the embeddings, trained and saved with the adapter.

Only the new rows are trained (peft's ``trainable_token_indices``) and saved, inside the adapter, so it stays small. Plain peft reads it
after ``model.resize_token_embeddings(len(tokenizer))``, as with any adapter for added tokens.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.errors import ModelError
from tunesmith.models.quiet import quiet_libraries

if TYPE_CHECKING:
    from peft import PeftConfig
    from transformers import PreTrainedModel

    from tunesmith.methods.protocol import Method


def add_token_rows(model: PreTrainedModel, num_tokens: int) -> tuple[int, ...]:
    """Give ``model`` an embedding row for each of ``num_tokens`` tokens and return the ids of the new rows, none when there were enough.

    New rows are drawn around the mean of the old ones, input and output embedding alike.
    """
    num_rows = model.get_input_embeddings().weight.shape[0]
    if num_tokens <= num_rows:
        return ()
    with quiet_libraries():
        model.resize_token_embeddings(num_tokens)
    return tuple(range(num_rows, num_tokens))


def train_token_rows(method: Method, token_ids: tuple[int, ...]) -> Method:
    """Return ``method`` training the rows ``token_ids`` of the embeddings too.

    Raises:
        ModelError: for a method that leaves the embeddings alone and saves nothing of them.
    """
    if not token_ids or not method.saves_adapter:  # whole weights hold the new rows anyway
        return method
    if not hasattr(method, "trainable_tokens"):
        raise ModelError(
            f"the tokenizer has {len(token_ids)} tokens more than the model has rows, and --method {method.name} trains no rows",
            fix="Use --method lora or full.",
        )
    changed: Method = dataclasses.replace(method, trainable_tokens=token_ids)  # type: ignore[type-var]
    return changed


def add_missing_rows(model: PreTrainedModel, config: PeftConfig, folder: Path) -> None:
    """Give ``model`` the rows that the adapter in ``folder`` was trained with: those of added tokens, or of a whole embedding it saved.

    Their values don't matter: the adapter brings its own.
    """
    trained = getattr(config, "trainable_token_indices", None) or []
    ids = [index for indices in trained.values() for index in indices] if isinstance(trained, dict) else trained
    add_token_rows(model, max([*(index + 1 for index in ids), _saved_rows(model, folder)]))


def _saved_rows(model: PreTrainedModel, folder: Path) -> int:
    """Rows of a whole input embedding among the adapter's weights, 0 when there is none."""
    from safetensors import safe_open

    weights = folder / "adapter_model.safetensors"
    if not weights.is_file():
        return 0
    embedding = next(name for name, module in model.named_modules() if module is model.get_input_embeddings())
    with safe_open(weights, "pt") as tensors:
        names = [name for name in tensors.keys() if name.endswith(f"{embedding}.weight")]  # noqa: SIM118 - not a mapping
        return max((tensors.get_slice(name).get_shape()[0] for name in names), default=0)
