"""Adapters of any kind on a model: load from a folder, merge, take off. The kind is recognized by the files of the folder."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from torch import nn

from tunesmith.errors import ModelError
from tunesmith.methods.master_weights import keep_master_weights

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

PEFT_CONFIG, BOTTLENECK_CONFIG = "adapter_config.json", "bottleneck_config.json"


def load_adapter(model: PreTrainedModel, folder: Path, *, trainable: bool = False) -> nn.Module:
    """Return ``model`` (changed in place) with the adapter in ``folder``: a peft adapter of any type, or a bottleneck adapter.

    Args:
        model: the base that the adapter was trained on.
        folder: where ``adapter_config.json`` (peft) or ``bottleneck_config.json`` lies.
        trainable: ``True`` to train it further; otherwise everything is frozen.

    Raises:
        ModelError: when the folder holds no adapter, or one that doesn't fit the model.
    """
    folder = Path(folder)
    if (folder / BOTTLENECK_CONFIG).is_file():
        from tunesmith.methods.bottleneck import load_bottleneck

        return load_bottleneck(model, folder, trainable=trainable)
    if (folder / PEFT_CONFIG).is_file():
        return _load_peft(model, folder, trainable=trainable)
    found = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) if folder.is_dir() else "no such folder"
    raise ModelError(
        f"no adapter in {folder}: neither {PEFT_CONFIG} nor {BOTTLENECK_CONFIG} is there (found: {found or 'nothing'})",
        fix="Name the folder 'adapter' of a finished run, or any peft adapter.",
    )


def merge_adapter(model: nn.Module) -> PreTrainedModel:
    """Return a plain float32 model with the adapter merged into its weights; ``model`` is used up, files on disk stay as they are.

    An adapter on one of two tied embeddings makes them differ: they are untied, and the configuration says so.

    Raises:
        ModelError: for a bottleneck adapter, and for peft adapters that have no weights to merge into (prompt tuning and the like).
    """
    from peft import PeftModel

    from tunesmith.methods.bottleneck import has_bottleneck

    if has_bottleneck(model):
        raise ModelError(
            "a bottleneck adapter can't be merged: it has a nonlinearity, and no weights of the base compute the same",
            fix="Use base and adapter together, or train with --method lora.",
        )
    if not isinstance(model, PeftModel):
        return cast("PreTrainedModel", model.float())
    if not hasattr(model.base_model, "merge_and_unload"):
        raise ModelError(f"an adapter of type {model.peft_type} can't be merged into weights", fix="Use base and adapter together.")
    model.float()
    _untie_targeted_embeddings(model)
    merged = cast("PreTrainedModel", model.merge_and_unload(safe_merge=True))
    merged.config.dtype = torch.float32
    return merged.requires_grad_(False)


def remove_adapter(model: nn.Module) -> PreTrainedModel:
    """Return the base without its adapter, as it was before: same modules, same weights, same logits bit by bit."""
    from peft import PeftModel

    from tunesmith.methods.bottleneck import remove_bottleneck

    if isinstance(model, PeftModel):
        return cast("PreTrainedModel", model.unload())
    return remove_bottleneck(cast("PreTrainedModel", model))


def _load_peft(model: PreTrainedModel, folder: Path, *, trainable: bool) -> nn.Module:
    from peft import PeftModel, load_peft_weights, set_peft_model_state_dict

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            peft_model = cast("PeftModel", PeftModel.from_pretrained(model, str(folder), is_trainable=True))
            keep_master_weights(peft_model)
            # Once more, now that whole modules are float32: the first time they were rounded to the base's dtype.
            result = set_peft_model_state_dict(peft_model, load_peft_weights(str(folder), device="cpu"))
    except Exception as error:  # peft and safetensors raise a dozen kinds, from KeyError to RuntimeError
        fix = "Use it with the model it was trained on."
        raise ModelError(f"the adapter in {folder} can't be put on this model: {_first_line(error)}", fix=fix) from error
    if result.unexpected_keys:
        raise ModelError(f"the adapter in {folder} has weights for modules that this model lacks: {result.unexpected_keys[0]}")
    return cast("nn.Module", peft_model if trainable else peft_model.requires_grad_(False).eval())


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _untie_targeted_embeddings(model: PeftModel) -> None:
    """Give the output embedding weights of its own when an adapter works on it or on the input embedding that it shares them with."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    base = model.get_base_model()
    source, output = base.get_input_embeddings(), base.get_output_embeddings()
    if output is None or not any(isinstance(module, BaseTunerLayer) for module in (source, output)):
        return
    plain_source, plain_output = (module.get_base_layer() if isinstance(module, BaseTunerLayer) else module for module in (source, output))
    if plain_source.weight is plain_output.weight:
        plain_output.weight = nn.Parameter(plain_output.weight.detach().clone(), requires_grad=False)
        base.config.tie_word_embeddings = False
