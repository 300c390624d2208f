"""Attention over packed rows is attention over each row alone, by short products and by fused kernels, gradients included."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tunesmith.train.fast import attention
from tunesmith.train.fast.attention import attend, attend_packed, attention_kernel
from tunesmith.train.fast.packing import RowGroup, TokenLayout
from tunesmith.train.fast.short_attention import short_attention

H, K, E = 6, 2, 8
SCALING = 0.3
LAYOUTS = {
    "one group": TokenLayout(0, (RowGroup(0, 3, 5),)),
    "groups": TokenLayout(0, (RowGroup(0, 2, 7), RowGroup(14, 3, 2), RowGroup(20, 1, 1))),
    "prefix": TokenLayout(4, (RowGroup(4, 2, 6), RowGroup(16, 3, 1))),
}


def states(layout: TokenLayout, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(layout.num_tokens, heads, E, generator=generator, dtype=dtype).requires_grad_(True) for heads in (H, K, K)]


def row_by_row(query: Tensor, key: Tensor, value: Tensor, layout: TokenLayout, softcap: float | None = None) -> Tensor:
    """The formula, one row and one head at a time."""
    output = torch.zeros_like(query)
    prefix = list(range(layout.prefix_length))
    rows = [prefix] + [
        prefix + list(range(group.start + row * group.length, group.start + (row + 1) * group.length))
        for group in layout.groups
        for row in range(group.num_rows)
    ]
    for row in rows:
        for head in range(H):
            scores = query[row, head] @ key[row, head // (H // K)].t() * SCALING
            scores = scores if softcap is None else softcap * torch.tanh(scores / softcap)
            scores = scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(1), float("-inf"))
            output = output.index_put(
                (torch.tensor(row, dtype=torch.long), torch.tensor(head)), scores.softmax(1) @ value[row, head // (H // K)]
            )
    return output


@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("name", LAYOUTS)
def test_short_attention_is_attention_row_by_row(name: str, softcap: float | None) -> None:
    layout = LAYOUTS[name]
    inputs = states(layout)
    expected = row_by_row(*inputs, layout, softcap)
    found = short_attention(*inputs, layout, scaling=SCALING, softcap=softcap)
    torch.testing.assert_close(found, expected)
    weights = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    wanted = torch.autograd.grad((expected * weights).sum(), inputs)
    # The gradients of a shared prefix are summed in float32.
    for gradient, true in zip(torch.autograd.grad((found * weights).sum(), inputs), wanted, strict=True):
        torch.testing.assert_close(gradient, true, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", LAYOUTS)
def test_fused_kernels_give_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = LAYOUTS[name]
    inputs = states(layout, torch.float32)
    expected = attend_packed(*inputs, layout, scaling=SCALING)
    wanted = torch.autograd.grad(expected.square().sum(), inputs)
    monkeypatch.setattr(attention, "SHORT_ROW_TOKENS", 0)
    monkeypatch.setattr(attention, "short_attention", None)  # red if it were called
    found = attend_packed(*inputs, layout, scaling=SCALING)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    for gradient, true in zip(torch.autograd.grad(found.square().sum(), inputs), wanted, strict=True):
        torch.testing.assert_close(gradient, true, rtol=1e-3, atol=1e-5)


def test_nothing_of_the_tail_spreads() -> None:
    layout = LAYOUTS["groups"]
    inputs = [tensor.detach().clone() for tensor in states(layout)]
    for tensor in inputs:
        tensor[layout.num_placed :] = float("nan")
        tensor.requires_grad_(True)
    found = short_attention(*inputs, layout, scaling=SCALING)
    assert layout.num_placed == 21 < len(found) == 24
    assert not found[layout.num_placed :].any()
    for gradient in torch.autograd.grad(found.sum(), inputs):
        assert torch.isfinite(gradient).all()
        assert not gradient[layout.num_placed :].any()


def test_strides_do_not_matter() -> None:
    layout = LAYOUTS["prefix"]
    inputs = states(layout)
    views = [tensor.detach().transpose(0, 1).contiguous().transpose(0, 1) for tensor in inputs]
    assert not views[0].is_contiguous()
    torch.testing.assert_close(short_attention(*views, layout, scaling=SCALING), short_attention(*inputs, layout, scaling=SCALING).detach())


def test_bfloat16_stays_within_its_rounding() -> None:
    layout = LAYOUTS["prefix"]
    inputs = states(layout)
    halves = [tensor.detach().bfloat16() for tensor in inputs]
    found = short_attention(*halves, layout, scaling=SCALING).double()
    expected = row_by_row(*(tensor.double() for tensor in halves), layout)
    assert (found - expected).norm() < 0.01 * expected.norm()


class Layer(nn.Module):
    """What the interface reads of an attention layer."""

    is_causal = True
    num_key_value_groups = H // K


def batch(num_rows: int = 3, length: int = 5, num_keys: int | None = None) -> list[Tensor]:
    generator = torch.Generator().manual_seed(2)
    sizes = ((H, length), (K, num_keys or length), (K, num_keys or length))
    return [torch.randn(num_rows, heads, tokens, E, generator=generator) for heads, tokens in sizes]


def plain(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, softcap: float | None = None) -> Tensor:
    scores = query @ key.repeat_interleave(H // K, 1).transpose(2, 3) * SCALING
    scores = scores if softcap is None else softcap * torch.tanh(scores / softcap)
    scores = scores if mask is None else scores.masked_fill(~mask, float("-inf"))
    return (scores.softmax(-1) @ value.repeat_interleave(H // K, 1)).transpose(1, 2)


CAUSAL = torch.ones(5, 5, dtype=torch.bool).tril()[None, None]
LEFT_PADDED = CAUSAL & torch.tensor([[0, 1, 1, 1, 1], [1, 1, 1, 1, 1], [0, 0, 0, 1, 1]], dtype=torch.bool)[:, None, None]


@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize(("mask", "effective"), [(None, CAUSAL), (LEFT_PADDED, LEFT_PADDED)])
def test_the_interface_does_what_models_ask_of_it(mask: Tensor | None, effective: Tensor, softcap: float | None) -> None:
    inputs = batch()
    found, weights = attend(Layer(), *inputs, mask, scaling=SCALING, softcap=softcap)
    expected = plain(*inputs, effective, softcap)
    keep = torch.isfinite(expected)  # a padded query sees nothing: whatever stands there is read by nobody
    torch.testing.assert_close(found[keep], expected[keep], rtol=1e-4, atol=1e-5)
    assert weights is None


@pytest.mark.parametrize("softcap", [None, 2.0])
def test_a_token_after_a_cache_sees_all_of_it(softcap: float | None) -> None:
    inputs = batch(length=1, num_keys=9)
    found, _ = attend(Layer(), *inputs, None, scaling=SCALING, softcap=softcap)
    torch.testing.assert_close(found, plain(*inputs, None, softcap), rtol=1e-4, atol=1e-5)


def test_the_math_kernel_is_for_short_rows_on_a_cpu() -> None:
    def flash_allowed(length: int, device: str) -> bool:
        with attention_kernel(length, device):
            return torch.backends.cuda.flash_sdp_enabled()

    assert not flash_allowed(30, "cpu")
    assert flash_allowed(4000, "cpu")
    assert flash_allowed(30, "cuda")
