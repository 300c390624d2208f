"""Fused norm, rotation and gated feed-forward: the same values and gradients as the modules of transformers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm
from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRMSNorm, apply_rotary_pos_emb

from tiny_models import FAMILIES, tiny_model
from tunesmith.models.structure import attention_of, decoder_blocks, feed_forward_of
from tunesmith.train.fast.mlp import ACTIVATIONS, fast_mlp_forward
from tunesmith.train.fast.norm import fast_norm_forward, rms_norm
from tunesmith.train.fast.rotary import rotate


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def compare(module: nn.Module, change: Any, x: Tensor, **tolerance: float) -> None:
    """Output and gradients of ``module`` before and after ``change`` put the fused forward on it."""
    weights = random(*x.shape, seed=9).to(x.dtype)

    def run() -> list[Tensor]:
        inputs = x.clone().requires_grad_(True)
        output = module(inputs)
        trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
        return [output.detach(), *torch.autograd.grad((output * weights).sum(), [inputs, *trained])]

    before = run()
    assert change(module)
    assert "forward" in module.__dict__
    for found, expected in zip(run(), before, strict=True):
        torch.testing.assert_close(found, expected, **tolerance)


@pytest.mark.parametrize("kind", [LlamaRMSNorm, Gemma2RMSNorm])
def test_norm_is_that_of_the_family(kind: type[nn.Module]) -> None:
    module = kind(24, eps=1e-3)
    nn.init.normal_(module.weight)  # type: ignore[arg-type]
    compare(module, fast_norm_forward, random(2, 5, 24), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [LlamaRMSNorm, Gemma2RMSNorm])
def test_norm_in_bfloat16_rounds_once(kind: type[nn.Module]) -> None:
    module = kind(24).bfloat16()
    nn.init.normal_(module.weight)  # type: ignore[arg-type]
    compare(module, fast_norm_forward, random(2, 5, 24, dtype=torch.bfloat16), rtol=2e-2, atol=2e-2)


def test_norm_gradients_are_exact() -> None:
    x, weight = (random(*shape).double().requires_grad_(True) for shape in ((3, 7), (7,)))
    assert torch.autograd.gradcheck(lambda x, weight: rms_norm(x, weight, 1e-5), (x, weight))


def test_a_norm_that_is_none_is_left_alone() -> None:
    class CenteredRMSNorm(LlamaRMSNorm):
        def forward(self, hidden_states: Tensor) -> Tensor:
            return super().forward(hidden_states - hidden_states.mean(-1, keepdim=True))

    assert not fast_norm_forward(CenteredRMSNorm(8))
    assert not fast_norm_forward(nn.LayerNorm(8))


def test_rotation_is_that_of_llama() -> None:
    angles = random(11, 4, seed=3)
    angles = torch.cat((angles, angles), dim=-1)
    cos, sin = angles.cos(), angles.sin()
    x = random(11, 3, 8).requires_grad_(True)
    expected, _ = apply_rotary_pos_emb(x.transpose(0, 1)[None], x.transpose(0, 1)[None], cos[None], sin[None])
    found = rotate(x, cos[:, None], sin[:, None])
    torch.testing.assert_close(found, expected[0].transpose(0, 1))


def test_rotation_gradients_are_exact() -> None:
    x, cos, sin = random(5, 2, 6).double().requires_grad_(True), random(5, 1, 6, seed=1).double(), random(5, 1, 6, seed=2).double()
    assert torch.autograd.gradcheck(lambda x: rotate(x, cos, sin), (x,))


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_feed_forward_with_frozen_weights(activation: str, dtype: torch.dtype) -> None:
    config = tiny_model("llama").config
    config.hidden_act = activation
    module = LlamaMLP(config).to(dtype).requires_grad_(False)
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    compare(module, lambda module: fast_mlp_forward(module, activation), random(2, 5, 32, dtype=dtype), rtol=tolerance, atol=tolerance)


def test_feed_forward_that_is_trained_is_left_alone() -> None:
    module = feed_forward_of(decoder_blocks(tiny_model("llama"))[0][1])[1]
    assert not fast_mlp_forward(module, "silu")
    assert not fast_mlp_forward(module.requires_grad_(False), "relu")
    assert fast_mlp_forward(module, "silu")


def test_other_modules_are_no_feed_forward() -> None:
    for family in FAMILIES:
        block = decoder_blocks(tiny_model(family).requires_grad_(False))[0][1]
        assert not fast_mlp_forward(attention_of(block)[1], "silu")
        assert not fast_mlp_forward(block, "silu")
