"""Bottleneck adapters: two small linear layers with a nonlinearity between them, inside every residual branch.

Houlsby et al. 2019 put one after attention and one after the feed-forward layer, Pfeiffer et al. 2021 one after the feed-forward layer.
Both sit before the residual addition: ``x + adapter(branch(x))``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from tunesmith.errors import ModelError, UsageError, nearest
from tunesmith.methods.adapters import BOTTLENECK_CONFIG, merge_adapter
from tunesmith.methods.bottleneck_layers import PLACEMENTS, adapter_layers, attach_layers, remove_layers
from tunesmith.methods.protocol import scale_learning_rate, trainable_parameters

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedModel

    from tunesmith.models.heads import Head
    from tunesmith.models.sources import ModelSource

BOTTLENECK_WEIGHTS = "bottleneck_adapter.safetensors"


@dataclass(frozen=True)
class Bottleneck:
    """Bottleneck adapters, saved as ``bottleneck_adapter.safetensors`` and ``bottleneck_config.json``.

    Learning rate: 1e-3 for the 135M sample model, as for LoRA: both start at zero change with one matrix of each pair at zero, and with the
    defaults of both the number of trained weights is alike. It lies inside the range Houlsby et al. search (3e-5 to 3e-3).

    Attributes:
        reduction_factor: hidden size divided by this is the width of the bottleneck.
        placement: ``"houlsby"`` (after attention and after feed-forward) or ``"pfeiffer"`` (after feed-forward).
        modules_to_save: full names of modules trained and saved whole beside the adapters (the head of a task).
    """

    reduction_factor: float = 16
    placement: str = "houlsby"
    modules_to_save: tuple[str, ...] = ()

    name: ClassVar[str] = "adapter"
    options: ClassVar[Mapping[str, str]] = {"adapter_reduction_factor": "reduction_factor", "adapter_placement": "placement"}
    default_learning_rate: ClassVar[float] = 1e-3
    saves_adapter: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Refuse values out of range, all of them in one message."""
        problems = []
        if self.reduction_factor <= 0:
            problems.append(f"--adapter_reduction_factor must be above 0, found {self.reduction_factor}")
        if self.placement not in PLACEMENTS:
            problems.append(f"--adapter_placement must be {' or '.join(PLACEMENTS)}, found {self.placement}")
        if problems:
            raise UsageError("; ".join(problems), fix=nearest(self.placement, PLACEMENTS) or None)

    def learning_rate(self, num_parameters: int) -> float:
        """Return the default peak learning rate for a model of ``num_parameters``."""
        return scale_learning_rate(self.default_learning_rate, num_parameters)

    def load_base(
        self, source: ModelSource, *, dtype: str, device: str, trust_remote_code: bool, task: str | Head = "text-generation"
    ) -> PreTrainedModel:
        """Return the base as it is; it stays frozen."""
        from tunesmith.models.load import load_model

        return load_model(source, dtype=dtype, device=device, trust_remote_code=trust_remote_code, task=task)

    def apply(self, model: PreTrainedModel) -> nn.Module:
        """Put adapters on ``model`` and return it: adapters trainable in float32, the base frozen."""
        attach_layers(model, self.reduction_factor, self.placement)
        for name in self.modules_to_save:
            module = model.get_submodule(name).float().requires_grad_(True)
            module.register_forward_pre_hook(_inputs_like_weights)
        return cast("nn.Module", model)

    def trainable(self, model: nn.Module) -> dict[str, nn.Parameter]:
        """Return the adapters' parameters by name."""
        return trainable_parameters(model)

    def save(self, model: nn.Module, folder: Path) -> None:
        """Write the adapters' weights and configuration into ``folder``."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self._state(model).items()}
        save_file(tensors, folder / BOTTLENECK_WEIGHTS, {"format": "pt"})
        config = {
            "reduction_factor": self.reduction_factor,
            "placement": self.placement,
            **({"modules_to_save": list(self.modules_to_save)} if self.modules_to_save else {}),
            "base_model_name_or_path": cast("PreTrainedModel", model).name_or_path,
        }
        (folder / BOTTLENECK_CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")

    def _state(self, model: nn.Module) -> dict[str, torch.Tensor]:
        """Everything that is saved: the adapters, and the modules trained whole."""
        whole = {f"{name}.{key}": value for name in self.modules_to_save for key, value in model.get_submodule(name).state_dict().items()}
        return {**_adapter_state(model), **whole}

    def merge(self, model: nn.Module) -> PreTrainedModel:
        """Refuse.

        Raises:
            ModelError: always: the nonlinearity leaves nothing to merge into.
        """
        return merge_adapter(model)

    def grid(self) -> dict[str, Any] | None:
        """Return ``None``: the base is in floating point."""
        return None


def load_bottleneck(model: PreTrainedModel, folder: Path, *, trainable: bool = False) -> nn.Module:
    """Put the adapter saved in ``folder`` on ``model`` (changed in place) and return it.

    Raises:
        ModelError: for a broken folder, and for an adapter of another model.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        config = json.loads((folder / BOTTLENECK_CONFIG).read_text(encoding="utf-8"))
        method = Bottleneck(
            reduction_factor=config["reduction_factor"],
            placement=config["placement"],
            modules_to_save=tuple(config.get("modules_to_save", ())),
        )
        tensors = load_file(folder / BOTTLENECK_WEIGHTS)
    except (OSError, ValueError, KeyError, TypeError, UsageError, SafetensorError) as error:
        raise ModelError(f"the bottleneck adapter in {folder} can't be read: {error}", fix="Copy or train it again.") from error
    _check_has(model, method.modules_to_save, folder)
    method.apply(model)
    _check_fits(method._state(model), model, tensors, folder)
    model.load_state_dict(tensors, strict=False)
    return cast("nn.Module", model if trainable else model.requires_grad_(False).eval())


def has_bottleneck(model: nn.Module) -> bool:
    """Return whether ``model`` carries bottleneck adapters."""
    return bool(adapter_layers(model))


def remove_bottleneck(model: PreTrainedModel) -> PreTrainedModel:
    """Take bottleneck adapters off ``model`` (in place) and return it: the base as it was, bit by bit."""
    remove_layers(model)
    return model


def _adapter_state(model: nn.Module) -> dict[str, torch.Tensor]:
    return {f"{name}.{key}": tensor for name, layer in adapter_layers(model).items() for key, tensor in layer.state_dict().items()}


def _inputs_like_weights(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Hidden states of a base in half precision go into a module trained in float32."""
    import torch

    dtype = next(module.parameters()).dtype
    return tuple(value.to(dtype) if isinstance(value, torch.Tensor) and value.is_floating_point() else value for value in inputs)


def _check_has(model: PreTrainedModel, modules: tuple[str, ...], folder: Path) -> None:
    known = dict(model.named_modules())
    lacking = [name for name in modules if name not in known]
    if lacking:
        raise ModelError(
            f"the bottleneck adapter in {folder} brings the modules {', '.join(lacking)}, which this {type(model).__name__} doesn't have",
            fix="Load the model for the task that the adapter was trained for.",
        )


def _check_fits(state: Mapping[str, torch.Tensor], model: PreTrainedModel, tensors: Mapping[str, torch.Tensor], folder: Path) -> None:
    """Compare names and shapes of all tensors; on a mismatch take the adapter off again and say what differs first."""
    there = {name: tuple(tensor.shape) for name, tensor in state.items()}
    saved = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    wrong = [name for name in sorted(there.keys() | saved.keys()) if there.get(name) != saved.get(name)]
    if wrong:
        remove_layers(model)
        raise ModelError(
            f"the bottleneck adapter in {folder} doesn't fit this model: {len(wrong)} weights differ, "
            f"the first is {wrong[0]} with shape {saved.get(wrong[0])}, the model needs {there.get(wrong[0])}",
            fix="Use it with the model it was trained on.",
        )
