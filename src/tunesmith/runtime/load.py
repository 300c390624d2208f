"""From a path to something that answers."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from tunesmith.data.task_file import TaskRecord
from tunesmith.data.templates import Template
from tunesmith.errors import ModelError, UsageError
from tunesmith.methods.adapters import load_adapter, merge_adapter
from tunesmith.models.checks import read_config
from tunesmith.models.heads import Head, is_encoder_decoder
from tunesmith.models.load import load_model, load_tokenizer
from tunesmith.models.sources import ModelSource
from tunesmith.runtime.classifier import ClassifierRuntime
from tunesmith.runtime.embedder import EmbedderRuntime
from tunesmith.runtime.exports import export_kind, load_export
from tunesmith.runtime.head_runtime import HeadRuntime
from tunesmith.runtime.low_rank import lighten_lora
from tunesmith.runtime.places import CHECKPOINT_FILE, Places, find_places, grid_warning, stored_task, stored_template
from tunesmith.runtime.sequence_runtime import SequenceRuntime
from tunesmith.runtime.tagger import TaggerRuntime
from tunesmith.runtime.torch_runtime import TorchRuntime
from tunesmith.runtime.untuned import untuned_template

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from tunesmith.runtime.protocol import Runtime

log = logging.getLogger(__name__)

_HEADS = {"ForSequenceClassification": "text-classification", "ForTokenClassification": "token-classification"}
_RUNTIMES: dict[str, type[HeadRuntime]] = {
    "text-classification": ClassifierRuntime,
    "token-classification": TaggerRuntime,
    "similarity": EmbedderRuntime,
}


def load(
    path: str | Path | None = None,
    *,
    adapter_path: str | Path | None = None,
    dtype: str = "auto",
    device: str = "auto",
    trust_remote_code: bool = False,
    revision: str | None = None,
    token: str | None = None,
    threads: int | None = None,
) -> Runtime:
    """Load a model, and what was trained on it, ready to answer.

    Args:
        path: the output folder of a fine-tuning, one of its checkpoints, an adapter folder (which names its base), a model folder, a GGUF
            file, a hub id, ``sample:NAME``, or the folder of an export (ONNX or GGUF); None for the sample model.
        adapter_path: an adapter to put on the model: its folder, or the folder of the run that made it.
        dtype: ``auto``, ``bfloat16``, ``float16`` or ``float32``. In float32 a LoRA adapter is merged into the weights in memory; in half
            precision it is not, because rounding the sum would change answers.
        device: ``auto``, ``cpu``, ``cuda``, ``mps``.
        trust_remote_code: run Python code that comes with the model.
        revision, token: of a hub model.
        threads: of the CPU; by default as many as there are physical cores.

    Returns: a runtime with the template and stop tokens stored at training; for a model that was not tuned here, those of its own chat
        template; failing that, prompts are continued as plain text.
    Raises:
        ModelError: when a part is missing, can't be read or doesn't fit the others.
        UsageError: for arguments that contradict each other.
    """
    if threads is not None and threads < 1:
        raise UsageError(f"threads is {threads}, but something has to compute", fix="Leave it out for as many as there are cores")
    if path is not None and (kind := export_kind(folder := Path(path).expanduser())) is not None:
        return load_export(
            folder,
            kind,
            adapter_path=adapter_path,
            dtype=dtype,
            device=device,
            trust_remote_code=trust_remote_code,
            revision=revision,
            threads=threads,
        )
    if threads is not None:
        torch.set_num_threads(threads)
    places = find_places(path, adapter_path=adapter_path, revision=revision, token=token)
    if warning := grid_warning(places):
        log.warning(warning)
    tokenizer = tokenizer_of(places, trust_remote_code=trust_remote_code)
    task = stored_task(places) or headed_task(places)
    head = base_head(places, task, tokenizer)
    model = _model(places, head, dtype=dtype, device=device, trust_remote_code=trust_remote_code)
    template = stored_template(places)
    if template is None and not (task is not None and task.head):
        plain = Template(kind="text", text="{text}", answer_column="text")
        template = plain if head.task == "sequence-to-sequence" else untuned_template(tokenizer, model)
    return runtime_around(model, tokenizer, template, task)


def runtime_around(model: nn.Module, tokenizer: PreTrainedTokenizerBase, template: Template | None, task: TaskRecord | None) -> Runtime:
    """Return the runtime that a PyTorch model is asked through.

    Args:
        model: of transformers, with its head where the task has one.
        tokenizer: what belongs to it.
        template: how prompts become text; a head reads none.
        task: what it was trained to do.
    """
    if task is not None and task.head:
        return _RUNTIMES[task.name](model, tokenizer, task)
    assert template is not None, "only a head is asked without a template"
    config: Any = model.config
    return (SequenceRuntime if config.is_encoder_decoder else TorchRuntime)(model, tokenizer, template, task)


def headed_task(places: Places) -> TaskRecord | None:
    """Return what a plain model of transformers with a head is for, by its configuration; None for one that writes text."""
    file = places.base.folder / "config.json"
    if places.base.kind == "gguf" or not file.is_file():
        return None
    config = read_config(places.base.folder)
    name = next((task for ending, task in _HEADS.items() if any(str(a).endswith(ending) for a in config.get("architectures") or ())), None)
    if name is None:
        return None
    named = config.get("id2label") or {"0": "LABEL_0", "1": "LABEL_1"}  # what transformers calls two labels without a name
    labels = tuple(str(named[key]) for key in sorted(named, key=int))
    several = config.get("problem_type") == "multi_label_classification"
    return TaskRecord(name, head=True, labels=labels, multi_label=several, text_columns=("text",), label_column="label")


def base_head(places: Places, task: TaskRecord | None, tokenizer: PreTrainedTokenizerBase) -> Head:
    """Return what a base model is loaded with on top: what its task says, for an encoder-decoder always its own output layer."""
    return Head("sequence-to-sequence") if is_encoder_decoder(places.base) else model_head(task, tokenizer)


def model_head(task: TaskRecord | None, tokenizer: PreTrainedTokenizerBase) -> Head:
    """Return what the model of a task is loaded with on top.

    Raises:
        ModelError: for a task that ends in no head.
    """
    if task is None or not task.head:
        return Head()
    if task.name not in _RUNTIMES:
        raise ModelError(f"its task.json says a head for {task.name}, which no head is for", fix=f"Known: {', '.join(_RUNTIMES)}")
    return Head(task.name, task.labels, task.multi_label, tokenizer.pad_token_id)


def tokenizer_of(places: Places, *, trust_remote_code: bool) -> PreTrainedTokenizerBase:
    """Load the tokenizer saved with the adapter, which has the tokens added in training; without one, the base's."""
    if places.adapter is not None and (places.adapter / "tokenizer_config.json").is_file():
        return load_tokenizer(ModelSource(str(places.adapter), "folder", places.adapter), trust_remote_code=trust_remote_code)
    return load_tokenizer(places.base, trust_remote_code=trust_remote_code)


def _model(places: Places, head: Head, *, dtype: str, device: str, trust_remote_code: bool) -> nn.Module:
    base = load_model(places.base, dtype=dtype, device=device, trust_remote_code=trust_remote_code, task=head)
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
    if bare.config.is_encoder_decoder:  # T5 looks at the weights of a layer to choose the type of its inputs, light layers have none
        return model
    num_light = lighten_lora(bare)
    log.debug("%d LoRA layers stay unmerged beside weights in half precision.", num_light)
    return model


def _is_plain_float32(model: PreTrainedModel) -> bool:
    return not getattr(model, "is_quantized", False) and all(
        parameter.dtype == torch.float32 for parameter in model.parameters() if parameter.is_floating_point()
    )
