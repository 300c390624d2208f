"""From a path to something that answers."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from tunesmith.data.conversations import end_of_turn
from tunesmith.data.templates import Template
from tunesmith.errors import ModelError
from tunesmith.methods.adapters import load_adapter, merge_adapter
from tunesmith.models.load import load_model, load_tokenizer
from tunesmith.models.sources import ModelSource
from tunesmith.runtime.low_rank import lighten_lora
from tunesmith.runtime.places import CHECKPOINT_FILE, Places, find_places, grid_warning, stored_template
from tunesmith.runtime.torch_runtime import TorchRuntime

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from tunesmith.runtime.protocol import Runtime

log = logging.getLogger(__name__)


def load(
    path: str | Path | None = None,
    *,
    adapter_path: str | Path | None = None,
    dtype: str = "auto",
    device: str = "auto",
    trust_remote_code: bool = False,
    revision: str | None = None,
    token: str | None = None,
) -> Runtime:
    """Load a model, and what was trained on it, ready to answer.

    Args:
        path: the output folder of a fine-tuning, one of its checkpoints, an adapter folder (which names its base), a model folder, a GGUF
            file, a hub id or ``sample:NAME``; None for the sample model.
        adapter_path: an adapter to put on the model: its folder, or the folder of the run that made it.
        dtype: ``auto``, ``bfloat16``, ``float16`` or ``float32``. In float32 a LoRA adapter is merged into the weights in memory; in half
            precision it is not, because rounding the sum would change answers.
        device: ``auto``, ``cpu``, ``cuda``, ``mps``.
        trust_remote_code: run Python code that comes with the model.
        revision, token: of a hub model.

    Returns: a runtime with the template and stop tokens stored at training; for a model that was not tuned here, those of its own chat
        template; failing that, prompts are continued as plain text.
    Raises:
        ModelError: when a part is missing, can't be read or doesn't fit the others.
        UsageError: for arguments that contradict each other.
    """
    places = find_places(path, adapter_path=adapter_path, revision=revision, token=token)
    if warning := grid_warning(places):
        log.warning(warning)
    tokenizer = tokenizer_of(places, trust_remote_code=trust_remote_code)
    template = stored_template(places)
    model = _model(places, dtype=dtype, device=device, trust_remote_code=trust_remote_code)
    return TorchRuntime(model, tokenizer, template or untuned_template(tokenizer, model))


def untuned_template(tokenizer: PreTrainedTokenizerBase, model: nn.Module | None = None) -> Template:
    """Return the template of a model that was not tuned here: its chat template, or none at all (the prompt is continued).

    Args:
        tokenizer: where the chat template comes from.
        model: whose generation settings may name more stop tokens.
    """
    more = _stop_tokens_of(model, tokenizer)
    chat_template = getattr(tokenizer, "chat_template", None)
    if not chat_template:
        log.info("The model brings no chat template, and none is stored with it: prompts are continued as plain text.")
        return Template(kind="text", text="{text}", answer_column="text", stop_tokens=more)
    stop = end_of_turn(tokenizer, str(chat_template))
    stops = tuple(dict.fromkeys([*([stop] if stop else []), *more]))
    return Template(kind="chat", chat_template=str(chat_template), stop_tokens=stops)


def _stop_tokens_of(model: nn.Module | None, tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    ids = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    numbers = [ids] if isinstance(ids, int) else list(ids or ())
    return tuple(str(token) for token in tokenizer.convert_ids_to_tokens(numbers) if token is not None)


def tokenizer_of(places: Places, *, trust_remote_code: bool) -> PreTrainedTokenizerBase:
    """Load the tokenizer saved with the adapter, which has the tokens added in training; without one, the base's."""
    if places.adapter is not None and (places.adapter / "tokenizer_config.json").is_file():
        return load_tokenizer(ModelSource(str(places.adapter), "folder", places.adapter), trust_remote_code=trust_remote_code)
    return load_tokenizer(places.base, trust_remote_code=trust_remote_code)


def _model(places: Places, *, dtype: str, device: str, trust_remote_code: bool) -> nn.Module:
    base = load_model(places.base, dtype=dtype, device=device, trust_remote_code=trust_remote_code)
    model: nn.Module = load_adapter(base, places.adapter) if places.adapter else base
    if places.checkpoint is not None:
        _overlay(model, places.checkpoint)
    return _for_answers(model, places)


def _overlay(model: nn.Module, checkpoint: Path) -> None:
    """Put the weights of a checkpoint in the place of those that the run ended with."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(checkpoint / CHECKPOINT_FILE)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"the checkpoint {checkpoint} can't be read: {error}", fix="Name another checkpoint of the run") from error
    parameters = dict(model.named_parameters())
    wrong = [name for name, tensor in tensors.items() if name not in parameters or parameters[name].shape != tensor.shape]
    if wrong:
        raise ModelError(f"the checkpoint {checkpoint} doesn't fit the run's model: {wrong[0]} differs")
    with torch.no_grad():
        for name, tensor in tensors.items():
            parameters[name].copy_(tensor)


def _for_answers(model: nn.Module, places: Places) -> nn.Module:
    """Make a peft adapter cheap: merged where that is exact, light where it isn't."""
    if not hasattr(model, "get_base_model"):
        return model
    wrapped: Any = model
    if wrapped.active_peft_config.is_prompt_learning:
        kind = wrapped.active_peft_config.peft_type
        raise ModelError(f"the adapter {places.adapter} is of type {kind}, which puts tokens before the prompt", fix="Use LoRA or DoRA")
    bare = cast("PreTrainedModel", wrapped.get_base_model())
    if _is_plain_float32(bare):
        merged: nn.Module = merge_adapter(model)
        return merged
    num_light = lighten_lora(bare)
    log.debug("%d LoRA layers stay unmerged beside weights in half precision.", num_light)
    return model


def _is_plain_float32(model: PreTrainedModel) -> bool:
    return not getattr(model, "is_quantized", False) and all(
        parameter.dtype == torch.float32 for parameter in model.parameters() if parameter.is_floating_point()
    )
