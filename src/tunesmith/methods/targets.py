"""Which modules a method works on: names as users write them -> names that exist in this model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from tunesmith.errors import ModelError, nearest

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

ALL_LINEAR = "all-linear"


def resolve_target_modules(model: PreTrainedModel, target_modules: str | Sequence[str]) -> list[str]:
    """Return module names in the shortest form that means exactly the wanted modules.

    Args:
        model: the plain base model.
        target_modules: ``"all-linear"`` (every linear layer inside the decoder blocks) or names: the end of a module's dotted name
            (``q_proj``, ``mlp.down_proj``) or the whole of it.

    Raises:
        ModelError: for names that no linear or embedding layer has; all of them at once, with the names there are.
    """
    from tunesmith.models.structure import linear_names

    if target_modules == ALL_LINEAR:
        return _shortest_names(linear_names(model), _layer_names(model))
    names = [target_modules] if isinstance(target_modules, str) else list(target_modules)
    _check_known("target_modules", names, _layer_names(model))
    return sorted(set(names))


def resolve_modules_to_save(model: PreTrainedModel, names: Sequence[str]) -> list[str]:
    """Return the full dotted names of the modules meant by ``names``.

    peft compares ends of names without regard to dots, so that ``norm`` would also mean ``input_layernorm``: full names mean one module.

    Raises:
        ModelError: for names that no module with weights has.
    """
    known = [name for name, module in model.named_modules() if name and any(True for _ in module.parameters(recurse=False))]
    _check_known("modules_to_save", names, known)
    return [full for full in known if any(_ends_with(full, name) for name in names)]


def check_layers(model: PreTrainedModel, layers: Sequence[int] | None) -> list[int] | None:
    """Return ``layers`` as a list when the model has decoder blocks of all these numbers.

    Raises:
        ModelError: for a number below 0 or beyond the last block.
    """
    from tunesmith.models.structure import decoder_blocks

    if layers is None:
        return None
    num_blocks = len(decoder_blocks(model))
    wrong = [index for index in layers if not 0 <= index < num_blocks]
    if wrong:
        raise ModelError(
            f"--layers_to_transform names block {', '.join(map(str, wrong))}, the model has blocks 0 to {num_blocks - 1}",
            fix="Count from 0.",
        )
    return list(layers)


def _layer_names(model: nn.Module) -> list[str]:
    """Full names of everything LoRA can work on: linear layers (GPT-2's ``Conv1D`` too) and embeddings."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    return [name for name, module in model.named_modules() if isinstance(module, nn.Linear | nn.Embedding | Conv1D)]


def _shortest_names(wanted: Sequence[str], everything: Iterable[str]) -> list[str]:
    """``q_proj`` for all of a model's ``…q_proj``; full names for those whose last part is also found outside of ``wanted``."""
    outside = {name.rpartition(".")[2] for name in set(everything) - set(wanted)}
    return sorted({name if name.rpartition(".")[2] in outside else name.rpartition(".")[2] for name in wanted})


def _ends_with(full: str, name: str) -> bool:
    return full == name or full.endswith(f".{name}")


def _check_known(option: str, names: Sequence[str], known: Sequence[str]) -> None:
    unknown = [name for name in names if not any(_ends_with(full, name) for full in known)]
    if unknown:
        there = sorted({full.rpartition(".")[2] for full in known})
        fix = " ".join(dict.fromkeys(hint for name in unknown if (hint := nearest(name, there))))
        raise ModelError(f"--{option}: no module is named {', '.join(unknown)}; the model has: {', '.join(there)}", fix=fix or None)
