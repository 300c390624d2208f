"""Adapters of any kind on a model: load from a folder, merge, take off. The kind is recognized by the files of the folder."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, cast

from torch import nn

from tunesmith.errors import ModelError
from tunesmith.methods.added_tokens import add_missing_rows
from tunesmith.methods.master_weights import float32_model, keep_master_weights
from tunesmith.methods.protocol import trainable_parameters

if TYPE_CHECKING:
    from peft import PeftConfig, PeftModel
    from transformers import PreTrainedModel

PEFT_CONFIG, BOTTLENECK_CONFIG = "adapter_config.json", "bottleneck_config.json"
PEFT_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")


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
        ModelError: for a bottleneck adapter, for peft adapters that have no weights to merge into (prompt tuning and the like), and for
            weights that are not finite numbers.
    """
    from peft import PeftModel

    from tunesmith.methods.bottleneck import has_bottleneck

    if has_bottleneck(model):
        raise ModelError(
            "a bottleneck adapter can't be merged: it has a nonlinearity, and no weights of the base compute the same",
            fix="Use base and adapter together, or train with --method lora.",
        )
    float32_model(model)
    if not isinstance(model, PeftModel):
        return cast("PreTrainedModel", model)
    if not hasattr(model.base_model, "merge_and_unload"):
        raise ModelError(f"an adapter of type {model.peft_type} can't be merged into weights", fix="Use base and adapter together.")
    _untie_targeted_embeddings(model)
    try:
        merged = cast("PreTrainedModel", model.merge_and_unload(safe_merge=True))
    except ValueError as error:
        raise ModelError(f"the adapter can't be merged: {_in_one_line(error)}") from error
    return merged.requires_grad_(False)


def remove_adapter(model: nn.Module) -> PreTrainedModel:
    """Return the base without its adapter, as it was before that was put on: same modules, same weights, same logits bit by bit.

    (Training that starts with PiSSA or OLoRA takes its share out of the base in memory; that base does not come back.)
    """
    from peft import PeftModel
    from peft.utils.other import ModulesToSaveWrapper

    from tunesmith.methods.bottleneck import remove_bottleneck

    if not isinstance(model, PeftModel):
        return remove_bottleneck(cast("PreTrainedModel", model))
    for module in model.modules():
        if isinstance(module, ModulesToSaveWrapper):
            module.set_adapter([])  # peft leaves the trained copy in its place otherwise
    return cast("PreTrainedModel", model.unload() if hasattr(model.base_model, "unload") else model.get_base_model())


def _load_peft(model: PreTrainedModel, folder: Path, *, trainable: bool) -> nn.Module:
    from peft import PeftConfig

    if not any((folder / name).is_file() for name in PEFT_WEIGHTS):
        raise ModelError(f"{folder} has {PEFT_CONFIG}, but no weights: {PEFT_WEIGHTS[0]} is missing", fix="Copy the whole folder.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of peft, about things that are checked below or mended here
            config = PeftConfig.from_pretrained(str(folder))
            add_missing_rows(model, config, folder)
            peft_model, lacking = _peft_model(model, config, folder)
    except Exception as error:  # peft and safetensors raise a dozen kinds, from KeyError to RuntimeError
        fix = "Use it with the model it was trained on."
        raise ModelError(f"the adapter in {folder} can't be put on this model: {_in_one_line(error)}", fix=fix) from error
    if lacking:
        raise ModelError(f"the adapter in {folder} and this model differ in {lacking[0]}", fix="Use it with the model it was trained on.")
    return peft_model if trainable else peft_model.requires_grad_(False).eval()


def _peft_model(model: PreTrainedModel, config: PeftConfig, folder: Path) -> tuple[nn.Module, list[str]]:
    """Return the model with the adapter, and the names of weights that only one of the two has (peft passes over them)."""
    from peft import PeftModel, load_peft_weights, set_peft_model_state_dict

    peft_model = PeftModel.from_pretrained(model, str(folder), config=config, is_trainable=not config.is_prompt_learning)
    if config.is_prompt_learning:  # the weights are those of a prompt, which nothing has to fit to
        return peft_model, []
    keep_master_weights(peft_model)
    # Once more, now that whole modules are float32: the first time they were rounded to the base's dtype.
    result = set_peft_model_state_dict(peft_model, load_peft_weights(str(folder), device="cpu"))
    missing = trainable_parameters(peft_model).keys() & set(result.missing_keys)
    return peft_model, sorted(missing) + sorted(result.unexpected_keys)


def _in_one_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(lines[:2]) or type(error).__name__
    return text if len(text) <= 300 else f"{text[:297]}…"


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
