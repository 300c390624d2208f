"""The model that another one learns from (``--loss distillation --teacher MODEL``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from tunesmith.config.finetune import FinetuneOptions
from tunesmith.errors import UsageError
from tunesmith.methods.adapters import load_adapter
from tunesmith.models.heads import Head
from tunesmith.models.load import load_model, load_tokenizer
from tunesmith.models.sources import resolve_model
from tunesmith.models.structure import causal_lm
from tunesmith.tasks.protocol import Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def load_teacher(options: FinetuneOptions, task: Task, tokenizer: PreTrainedTokenizerBase) -> nn.Module:
    """Return the teacher, frozen: a model, or a finished run with its adapter.

    Raises:
        UsageError: when it reads other tokens or scores other labels than the model that is to learn.
    """
    source = resolve_model(options.teacher, token=options.token)
    if load_tokenizer(source, trust_remote_code=options.trust_remote_code).get_vocab() != tokenizer.get_vocab():
        fix = "Give a larger model of the same family."
        raise UsageError(f"--teacher {options.teacher} has other tokens than the model that is to learn", fix=fix)
    head = Head(task.head.task, may_be_new=source.adapter is not None)
    model: nn.Module = load_model(
        source, dtype=options.torch_dtype, device=options.device, trust_remote_code=options.trust_remote_code, task=head
    )
    if source.adapter is not None:
        model = load_adapter(model, source.adapter)
    _check_labels(model, task, str(options.teacher))
    return model.requires_grad_(False).eval()


def _check_labels(model: nn.Module, task: Task, name: str) -> None:
    labels = task.head.labels
    if not labels:
        return
    config: Any = causal_lm(model).config
    found = tuple(str(config.id2label[number]) for number in sorted(config.id2label))
    if found != labels:
        message = f"--teacher {name} scores the labels {', '.join(found[:4])} …; the data has {', '.join(labels[:4])} …"
        raise UsageError(message, fix="Train the teacher on rows with the same labels.")
