"""A loss is tried on a tiny batch before training, so that what is wrong with it is said in one line and at once."""

from __future__ import annotations

import inspect
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from tunesmith.errors import UsageError

ROWS = 6
WIDTH = 8


def check_labels_loss(module: nn.Module, name: str, *, num_labels: int, multi_label: bool = False, teacher: bool = False) -> None:
    """Call ``module`` as training will: ``forward(logits, labels)`` on six rows.

    Args:
        module: the loss; ``name`` is what messages call it.
        num_labels: V, columns of the logits.
        multi_label: labels are ``(N, V)`` of zeros and ones.
        teacher: a third argument, the teacher's logits.

    Raises:
        UsageError: for another signature, an error inside, and a result that is no finite scalar with a gradient.
    """
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(ROWS, num_labels, generator=draw).requires_grad_()
    labels = torch.arange(ROWS) % num_labels
    given: dict[str, Tensor] = {"logits": logits, "labels": labels}
    if multi_label:
        given["labels"] = nn.functional.one_hot(labels, num_labels).float()
    if teacher:
        given["teacher_logits"] = torch.randn(ROWS, num_labels, generator=draw)
    _check(module, name, given, learnt=logits)


def check_pairs_loss(module: nn.Module, name: str) -> None:
    """Call ``module`` as training will: ``forward(output1, output2, label)`` on six pairs of embeddings of length 1, labels 0 and 1.

    Raises:
        UsageError: as :func:`check_labels_loss`.
    """
    draw = torch.Generator().manual_seed(0)
    first, second = (nn.functional.normalize(torch.randn(ROWS, WIDTH, generator=draw)) for _ in range(2))
    learnt = first.requires_grad_()
    _check(module, name, {"output1": learnt, "output2": second, "label": (torch.arange(ROWS) % 2).float()}, learnt=learnt)


def _check(module: nn.Module, name: str, given: Mapping[str, Tensor], *, learnt: Tensor) -> None:
    asked = f"forward({', '.join(given)})"
    signature = inspect.signature(module.forward)
    try:
        signature.bind(*given.values())
    except TypeError as error:
        raise UsageError(
            f"--loss {name}: its forward takes {signature}, but training calls {asked}", fix="Change its arguments."
        ) from error
    shapes = ", ".join(f"{key} {tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}" for key, value in given.items())
    try:
        result = module(*given.values())
    except Exception as error:  # the user's own code may raise anything
        first = (str(error).strip().splitlines() or [""])[0]
        raise UsageError(f"--loss {name} fails on a tiny batch ({shapes}): {type(error).__name__}: {first}") from error
    problem, fix = _problem(result, learnt)
    if problem:
        raise UsageError(f"--loss {name} {problem} on a tiny batch ({shapes})", fix=fix)


def _problem(result: object, learnt: Tensor) -> tuple[str, str]:
    """What is wrong with a result, and how to mend it; two empty strings when nothing is."""
    if not isinstance(result, Tensor):
        return f"returns {type(result).__name__}, no tensor", "Return one number as a tensor."
    if result.dim():
        return f"returns a tensor of shape {tuple(result.shape)}, not one number", "Return its mean: .mean()"
    if not torch.isfinite(result):
        return f"returns {result.item()}", "Look for a logarithm or a division of zero."
    if not result.requires_grad:
        return "returns a number without a gradient, so nothing could be learnt from it", "Leave .item(), .detach() and argmax out."
    (gradient,) = torch.autograd.grad(result, learnt, allow_unused=True)
    if gradient is None:
        return "returns a number that doesn't depend on what the model computed", "Use the first argument."
    if not torch.isfinite(gradient).all():
        return "has a gradient that is not finite", "Look for a root or a division of zero; add a small number inside."
    return "", ""
