"""The loss of a task that scores labels: which one, with which weights (those of labels as text, too), checked before training."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from tunesmith.errors import UsageError, nearest
from tunesmith.losses.check import check_labels_loss
from tunesmith.losses.load import is_file, load_loss

if TYPE_CHECKING:
    from tunesmith.config.finetune import FinetuneOptions

#: Losses that take the weights of labels.
_WEIGHED = ("cross-entropy", "focal")


def label_loss(options: FinetuneOptions, labels: Sequence[str], counts: Counter[str], *, multi_label: bool) -> nn.Module:
    """Return the loss that the options ask for.

    Args:
        options: ``loss``, ``loss_kwargs``, ``class_weights``.
        labels: in the order of the head's outputs.
        counts: training rows of each.
        multi_label: several may be right at once.

    Raises:
        UsageError: for one that doesn't fit, or fails on a tiny batch.
    """
    name = options.loss or "cross-entropy"
    kwargs = dict(options.loss_kwargs or {})
    if name == "contrastive":
        raise UsageError("--loss contrastive compares two texts, this task scores labels", fix="Use cross-entropy, or --task similarity.")
    if name == "distillation" and multi_label:
        raise UsageError("--loss distillation needs one right label a row, these rows have several", fix="Use cross-entropy or focal.")
    if options.class_weights:
        kwargs["weights"] = weights_of_labels(options, labels, counts)
    elif "weights" in kwargs and not is_file(name):
        raise UsageError("--loss_kwargs weights: weights of labels are given by --class_weights", fix="Leave it out.")
    module = load_loss(name, kwargs)
    check_labels_loss(module, name, num_labels=len(labels), multi_label=multi_label, teacher=name == "distillation")
    return module


def weights_of_labels(options: FinetuneOptions, labels: Sequence[str], counts: Counter[str]) -> Tensor:
    """Return the weight of each label that ``class_weights`` asks for.

    Args:
        options: ``class_weights``, which is given, and ``loss``.
        labels: of all rows; ``counts``: training rows of each.

    Raises:
        UsageError: for a loss that knows no weights, and as :func:`class_weights`.
    """
    name = options.loss or "cross-entropy"
    if name not in _WEIGHED:
        raise UsageError(f"--class_weights has no effect with --loss {name}", fix=f"Leave it out, or use {' or '.join(_WEIGHED)}.")
    return class_weights(str(options.class_weights), labels, counts)


def class_weights(asked: str, labels: Sequence[str], counts: Counter[str]) -> Tensor:
    """Return the weight of each label.

    Args:
        asked: ``balanced`` (rows / (labels x rows of the label), King and Zeng 2001), or a JSON file of label -> weight, others 1.

    Raises:
        UsageError: for a file that can't be read, unknown labels, or weights that are no positive numbers.
    """
    if asked == "balanced":
        total = sum(counts.values())
        return torch.tensor([total / (len(labels) * counts[label]) if counts[label] else 1.0 for label in labels])
    try:
        given = json.loads(Path(asked).expanduser().read_text(encoding="utf-8"))
        assert isinstance(given, dict)
    except (OSError, ValueError, AssertionError) as error:
        fix = 'Write balanced, or name a JSON file: {"label": 2.0}'
        raise UsageError(f"--class_weights {asked} is no JSON file of label -> weight", fix=fix) from error
    unknown = [name for name in given if name not in labels]
    if unknown:
        raise UsageError(f"--class_weights {asked}: no row has the label '{unknown[0]}'", fix=nearest(unknown[0], labels) or None)
    for name, value in given.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
            raise UsageError(f"--class_weights {asked}: the weight of '{name}' is {value!r}", fix="Give a number of 0 or more.")
    weights = torch.tensor([float(given.get(label, 1.0)) for label in labels])
    if not weights.any():
        raise UsageError(f"--class_weights {asked}: every weight is 0", fix="Give at least one label a weight.")
    return weights
