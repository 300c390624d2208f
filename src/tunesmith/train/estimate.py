"""How much memory a training will take, said before it starts, and which knobs help when it doesn't fit.

The figures are sums of what is known to be held: weights, gradients, Adam's two moments, and the activations of one forward pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tunesmith.errors import TunesmithError

GIB = 2**30

# What a Python process with torch and transformers holds before it loads a model.
PROCESS_BYTES = 0.45 * GIB

# Values kept for the backward pass, a token and block, in units of the hidden size (d) and of the feed-forward width (f): the inputs of
# both norms and of the linear layers, queries, keys and values, the attention's output, and gate, up, their product and its activation.
KEPT_HIDDEN, KEPT_FEED_FORWARD = 9, 4
# Freed and not yet freed tensors overlap, and the allocator keeps some; found by comparing with peaks measured on the sample model.
OVERHEAD = 1.25


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes by what they are for."""

    weights: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        """All of it, with the process itself."""
        return round(PROCESS_BYTES + (self.weights + self.gradients + self.optimizer + self.activations) * OVERHEAD)

    def __str__(self) -> str:
        return (
            f"about {self.total / GIB:.1f} GiB (weights {self.weights / GIB:.2f}, gradients {self.gradients / GIB:.2f}, "
            f"optimizer {self.optimizer / GIB:.2f}, activations {self.activations / GIB:.2f})"
        )


def estimate_memory(model: nn.Module, config: Any, *, tokens: int, checkpointing: bool, activation_bytes: int = 2) -> MemoryEstimate:
    """Estimate the peak memory of a training.

    Args:
        model: with its trainable parameters marked.
        config: the model's configuration.
        tokens: tokens of the largest forward pass, padding included.
        checkpointing: whether activations are recomputed (gradient checkpointing).
        activation_bytes: bytes of one activation, 2 for bfloat16.
    """
    config = config.get_text_config() if hasattr(config, "get_text_config") else config
    hidden = int(getattr(config, "hidden_size", 0) or getattr(config, "n_embd", 0))
    blocks = int(getattr(config, "num_hidden_layers", 0) or getattr(config, "n_layer", 1))
    feed_forward = getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None) or 4 * hidden
    parameters = list(model.parameters())
    buffers = sum(buffer.numel() * buffer.element_size() for buffer in model.buffers())
    trainable = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
    per_token = hidden if checkpointing else KEPT_HIDDEN * hidden + KEPT_FEED_FORWARD * int(feed_forward)
    return MemoryEstimate(
        weights=buffers + sum(parameter.numel() * parameter.element_size() for parameter in parameters),
        gradients=4 * trainable,
        optimizer=8 * trainable,
        activations=tokens * per_token * blocks * activation_bytes,
    )


def advice(estimate: MemoryEstimate, *, batch_size: int, checkpointing: bool, method: str) -> str:
    """Say which knobs lower the memory by how much, most helpful first."""
    knobs: list[tuple[int, str]] = []
    if batch_size > 1:
        knobs.append((estimate.activations // 2, "half the --max_tokens_per_batch"))
    if not checkpointing:
        knobs.append((round(estimate.activations * 0.8), "--gradient_checkpointing true (a third slower)"))
    if method == "full":
        knobs.append(((estimate.gradients + estimate.optimizer) * 9 // 10, "--method lora"))
    if method in ("lora", "dora", "adapter"):
        knobs.append((round(estimate.weights * 0.7), "--method qlora"))
    knobs.sort(reverse=True)
    return (
        "; ".join(f"{name} saves about {saved * OVERHEAD / GIB:.1f} GiB" for saved, name in knobs if saved > 0.05 * GIB)
        or "a smaller model"
    )


class OutOfMemory(TunesmithError):
    """Memory ran out while training with batches of ``batch_size``."""

    def __init__(self, message: str, *, batch_size: int) -> None:
        super().__init__(message)
        self.batch_size = batch_size


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory, the machine's or the GPU's, ran out."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)
