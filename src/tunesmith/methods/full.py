"""Full fine-tuning: every weight is trained and saved."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from tunesmith.methods.master_weights import float32_model
from tunesmith.methods.protocol import scale_learning_rate, trainable_parameters

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

    from tunesmith.models.heads import Head
    from tunesmith.models.sources import ModelSource

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Full:
    """Train every weight, in float32.

    Learning rate: 1e-4 for the 135M sample model, a tenth of LoRA's (Schulman et al. 2025, "LoRA Without Regret": the best rate of LoRA is
    ten times that of full fine-tuning, whatever the model); 2.7e-5 at 7B, where 1e-5 to 2e-5 is usual.
    """

    name: ClassVar[str] = "full"
    options: ClassVar[Mapping[str, str]] = {}
    default_learning_rate: ClassVar[float] = 1e-4
    saves_adapter: ClassVar[bool] = False

    def learning_rate(self, num_parameters: int) -> float:
        """Return the default peak learning rate for a model of ``num_parameters``."""
        return scale_learning_rate(self.default_learning_rate, num_parameters)

    def load_base(
        self, source: ModelSource, *, dtype: str, device: str, trust_remote_code: bool, task: str | Head = "text-generation"
    ) -> PreTrainedModel:
        """Return the base in float32: a step of 1e-4 relative size is below half a unit of bfloat16 and would be lost in it."""
        from tunesmith.models.load import load_model

        if dtype not in ("auto", "float32"):
            log.warning("Full fine-tuning keeps its weights in float32, so --torch_dtype %s is not used.", dtype)
        return load_model(source, dtype="float32", device=device, trust_remote_code=trust_remote_code, task=task)

    def apply(self, model: PreTrainedModel) -> nn.Module:
        """Make every parameter of ``model`` trainable, in float32."""
        return float32_model(model).requires_grad_(True)

    def trainable(self, model: nn.Module) -> dict[str, nn.Parameter]:
        """Return all parameters by name, tied ones once."""
        return trainable_parameters(model)

    def save(self, model: nn.Module, folder: Path) -> None:
        """Write weights and configuration as a plain Hugging Face folder of float32 safetensors."""
        from tunesmith.models.save import save_plain_model

        save_plain_model(cast("PreTrainedModel", model), None, folder)

    def merge(self, model: nn.Module) -> PreTrainedModel:
        """Return ``model``: there is nothing to merge."""
        return cast("PreTrainedModel", float32_model(model))

    def grid(self) -> dict[str, Any] | None:
        """Return ``None``: the base is in floating point."""
        return None
