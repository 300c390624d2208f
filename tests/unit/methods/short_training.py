"""A few training steps on fixed random tokens, and the comparisons that the tests of all methods make."""

from __future__ import annotations

import copy
import hashlib

import torch
from torch import nn
from transformers import PreTrainedModel

from tunesmith.methods.protocol import Method

#: Largest difference between logits of two float32 models that compute the same in another order; logits here reach 4.
FLOAT32_BOUND = 2e-5


def token_ids(vocab_size: int = 384) -> torch.Tensor:
    """``(2, 16)`` random tokens without special ones, the same in every test."""
    return torch.randint(4, vocab_size, (2, 16), generator=torch.Generator().manual_seed(0))


def train(model: nn.Module, method: Method, *, num_steps: int = 3, learning_rate: float = 1e-2) -> nn.Module:
    """Train ``model`` for a few steps of AdamW and return it in evaluation mode."""
    ids = token_ids()
    optimizer = torch.optim.AdamW(method.trainable(model).values(), lr=learning_rate)
    model.train()
    for _ in range(num_steps):
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


@torch.no_grad()
def logits(model: nn.Module, ids: torch.Tensor | None = None) -> torch.Tensor:
    """Logits of ``model`` on :func:`token_ids`, float32."""
    result: torch.Tensor = model(input_ids=token_ids() if ids is None else ids).logits
    return result.float()


def distance(left: torch.Tensor, right: torch.Tensor) -> float:
    """Largest absolute difference."""
    return (left - right).abs().max().item()


def weights_hash(model: nn.Module) -> str:
    """Hash of the names and bytes of everything in the state dict of ``model``."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def in_bfloat16(model: PreTrainedModel) -> PreTrainedModel:
    """A copy with weights in bfloat16, buffers left alone: as transformers loads it."""
    changed = copy.deepcopy(model)
    for parameter in changed.parameters():
        parameter.data = parameter.data.bfloat16()
    changed.config.dtype = torch.bfloat16
    return changed
