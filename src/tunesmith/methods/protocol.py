"""What every fine-tuning method offers, and the few steps that all of them share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

    from tunesmith.models.heads import Head
    from tunesmith.models.sources import ModelSource

#: Size of the model on which the default learning rates were measured (SmolLM2-135M).
MEASURED_NUM_PARAMETERS = 134_515_008


class Method(Protocol):
    """A way to fine-tune: what is trainable, how it is saved, how it is merged.

    A method is a frozen dataclass of flat fields; the class lists in ``options`` which command-line options set which of them.
    """

    @property
    def name(self) -> str:
        """The name in :data:`tunesmith.methods.METHODS`."""

    @property
    def options(self) -> Mapping[str, str]:
        """Option as the user spells it -> field of the dataclass."""

    @property
    def default_learning_rate(self) -> float:
        """Peak learning rate for a model of the size it was measured on, see :func:`scale_learning_rate`."""

    @property
    def saves_adapter(self) -> bool:
        """Whether :meth:`save` writes an adapter that needs its base model; otherwise it writes whole weights."""

    def learning_rate(self, num_parameters: int) -> float:
        """Return the default peak learning rate for a base model of ``num_parameters``."""

    def load_base(
        self, source: ModelSource, *, dtype: str, device: str, trust_remote_code: bool, task: str | Head = "text-generation"
    ) -> PreTrainedModel:
        """Return the base model in the form this method trains on (quantized, for one that does), with the head that ``task`` needs."""

    def apply(self, model: PreTrainedModel) -> nn.Module:
        """Make ``model`` trainable in place and return the module to train: trainable parameters are float32, the rest is frozen."""

    def trainable(self, model: nn.Module) -> dict[str, nn.Parameter]:
        """Return the trainable parameters by name."""

    def save(self, model: nn.Module, folder: Path) -> None:
        """Write what was trained into ``folder`` (made when missing)."""

    def merge(self, model: nn.Module) -> PreTrainedModel:
        """Return a plain float32 model that computes what ``model`` computes; ``model`` is used up."""

    def grid(self) -> dict[str, Any] | None:
        """Return the quantization grid of the frozen base as the manifest records it, ``None`` for a base in floating point."""


def trainable_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters of ``model`` that require a gradient, by name, tied ones once."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def scale_learning_rate(measured: float, num_parameters: int) -> float:
    """Return the learning rate for a model of ``num_parameters`` from the one measured on the 135M sample model.

    ``measured * (135M / num_parameters) ** (1/3)``, never above ``measured``, rounded to two digits. The best learning rate of Adam falls
    as 1/width (Yang et al. 2022, Tensor Programs V, table 3), and width grows as the cube root of the number of parameters, because depth
    grows along with it. A 7B model gets 0.27 times the measured one: 2.7e-4 for LoRA, where 2e-4 is usual (Dettmers et al. 2023, table 9).
    """
    shrink = (MEASURED_NUM_PARAMETERS / max(num_parameters, MEASURED_NUM_PARAMETERS)) ** (1 / 3)
    return float(f"{measured * shrink:.1e}")
