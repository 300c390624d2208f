"""The chunked loss of a linear output layer is the plain one, gradients included, and never holds all logits."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tunesmith.errors import ShapeError
from tunesmith.train.fast import cross_entropy
from tunesmith.train.fast.cross_entropy import linear_cross_entropy

N, D, V = 37, 16, 101


def work(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(N, D, generator=generator).to(dtype).requires_grad_(True)
    weight = torch.randn(V, D, generator=generator).to(dtype).requires_grad_(True)
    bias = torch.randn(V, generator=generator).to(dtype).requires_grad_(True)
    labels = torch.randint(0, V, (N,), generator=generator)
    labels[:9] = (hidden @ weight.t() + bias).argmax(dim=1)[:9]
    return hidden, weight, bias, labels


def plain(hidden: Tensor, weight: Tensor, bias: Tensor, labels: Tensor, scale: float, softcap: float | None) -> Tensor:
    logits = torch.nn.functional.linear(hidden, weight, bias).float() * scale
    logits = logits if softcap is None else softcap * torch.tanh(logits / softcap)
    return torch.nn.functional.cross_entropy(logits, labels, reduction="sum")


@pytest.mark.parametrize("chunk_tokens", [1, 8, 37, 1024])
@pytest.mark.parametrize(("scale", "softcap"), [(1.0, None), (0.125, None), (1.0, 5.0), (2.0, 3.0)])
def test_loss_and_gradients_are_those_of_all_logits(chunk_tokens: int, scale: float, softcap: float | None) -> None:
    hidden, weight, bias, labels = work()
    expected = torch.autograd.grad(0.3 * plain(hidden, weight, bias, labels, scale, softcap), (hidden, weight, bias))
    result = linear_cross_entropy(hidden, weight, labels, bias=bias, scale=scale, softcap=softcap, chunk_tokens=chunk_tokens)
    torch.testing.assert_close(result.loss_sum, plain(hidden, weight, bias, labels, scale, softcap), rtol=1e-6, atol=1e-5)
    for found, wanted in zip(torch.autograd.grad(0.3 * result.loss_sum, (hidden, weight, bias)), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("scale", "softcap"), [(1.0, None), (2.0, 3.0)])
def test_tokens_count_by_their_weights(scale: float, softcap: float | None) -> None:
    hidden, weight, bias, labels = work()
    weights = torch.linspace(0.0, 3.0, N)  # the first counts for nothing
    logits = torch.nn.functional.linear(hidden, weight, bias) * scale
    logits = logits if softcap is None else softcap * torch.tanh(logits / softcap)
    plain_sum = (torch.nn.functional.cross_entropy(logits, labels, reduction="none") * weights).sum()
    expected = torch.autograd.grad(plain_sum, (hidden, weight, bias))
    result = linear_cross_entropy(hidden, weight, labels, bias=bias, scale=scale, softcap=softcap, token_weights=weights, chunk_tokens=8)
    torch.testing.assert_close(result.loss_sum, plain_sum, rtol=1e-6, atol=1e-5)
    for found, wanted in zip(torch.autograd.grad(result.loss_sum, (hidden, weight, bias)), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_bfloat16_is_as_near_to_float32_as_the_plain_loss_is() -> None:
    hidden, weight, bias, labels = work(torch.bfloat16)
    true = [tensor.detach().float().requires_grad_(True) for tensor in (hidden, weight, bias)]
    (wanted,) = torch.autograd.grad(plain(*true, labels, 1.0, None), true[0])
    result = linear_cross_entropy(hidden, weight, labels, bias=bias)
    (found,) = torch.autograd.grad(result.loss_sum, hidden)
    (own,) = torch.autograd.grad(plain(hidden, weight, bias, labels, 1.0, None), hidden)
    assert result.loss_sum.dtype == torch.float32
    assert (found.float() - wanted).norm() < 1.2 * (own.float() - wanted).norm() < 0.02 * wanted.norm()


def test_right_predictions_are_counted() -> None:
    hidden, weight, bias, labels = work()
    right = int(((hidden @ weight.t() + bias).argmax(dim=1) == labels).sum())
    assert linear_cross_entropy(hidden, weight, labels, bias=bias, chunk_tokens=5).num_correct == right >= 9


def test_never_more_logits_than_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, own = [], cross_entropy._logits
    monkeypatch.setattr(cross_entropy, "_logits", lambda hidden, *args: rows.append(len(hidden)) or own(hidden, *args))
    hidden, weight, _, labels = work()
    linear_cross_entropy(hidden, weight, labels, chunk_tokens=10).loss_sum.backward()
    assert rows == [10, 10, 10, 7]


def test_a_frozen_weight_gets_no_gradient_and_no_memory() -> None:
    hidden, weight, _, labels = work()
    result = linear_cross_entropy(hidden, weight.detach(), labels)
    assert result.loss_sum.grad_fn is not None
    assert result.loss_sum.grad_fn.saved_tensors[1] is None  # type: ignore[attr-defined]
    result.loss_sum.backward()
    assert hidden.grad is not None
    assert weight.grad is None


def test_nothing_is_kept_without_gradients() -> None:
    hidden, weight, _, labels = work()
    with torch.no_grad():
        result = linear_cross_entropy(hidden, weight, labels)
    assert not result.loss_sum.requires_grad
    torch.testing.assert_close(result.loss_sum, linear_cross_entropy(hidden, weight, labels).loss_sum.detach())


def test_no_rows_make_no_loss() -> None:
    hidden, weight, _, labels = work()
    result = linear_cross_entropy(hidden[:0], weight, labels[:0])
    result.loss_sum.backward()
    assert result.loss_sum.item() == 0
    assert hidden.grad is not None
    assert not hidden.grad.any()


def test_shapes_that_do_not_fit_are_named() -> None:
    hidden, weight, _, labels = work()
    with pytest.raises(ShapeError, match=r"hidden \(37, 16\).*labels \(36,\)"):
        linear_cross_entropy(hidden, weight, labels[1:])
