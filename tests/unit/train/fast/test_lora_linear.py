"""The cheap forward of peft's linear layers: same outputs and gradients as peft's own, float32 masters, nothing stale."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import Linear as PeftLinear
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from tunesmith.methods.grid_linear import GridLinear
from tunesmith.train.fast.lora_linear import SharedInput, fast_lora_forward

I, O, R = 32, 24, 4  # noqa: E741


class Pair(nn.Module):
    """Two layers on one input."""

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((self.first(x), self.second(x)), dim=-1)


def adapted(kind: str = "linear", dtype: torch.dtype = torch.float32, **options: Any) -> nn.Module:
    """A peft model of two adapted layers with a frozen base in ``dtype`` and float32 adapters that do something."""
    torch.manual_seed(0)
    layers = [Conv1D(O, I) if kind == "conv1d" else nn.Linear(I, O, bias=kind != "grid") for _ in range(2)]
    for layer in layers:
        nn.init.normal_(layer.weight, std=0.3)
    base = Pair(*(GridLinear(layer) if kind == "grid" else layer.to(dtype) for layer in layers))
    config = LoraConfig(r=R, lora_alpha=6, target_modules=["first", "second"], fan_in_fan_out=kind == "conv1d", **options)
    model: nn.Module = get_peft_model(base, config)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.float()
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.2)
        if "magnitude" in name:
            parameter.data *= torch.linspace(0.5, 1.5, O)
    return model


def lora_layers(model: nn.Module) -> list[PeftLinear]:
    return [module for module in model.modules() if isinstance(module, PeftLinear)]


def x_of(dtype: torch.dtype = torch.float32, seed: int = 3) -> Tensor:
    return torch.randn(2, 5, I, generator=torch.Generator().manual_seed(seed)).to(dtype).requires_grad_(True)


def run(model: nn.Module, x: Tensor, seed: int | None = None) -> list[Tensor]:
    """Output, gradient of the input, gradients of the adapters."""
    if seed is not None:
        torch.manual_seed(seed)
    output = model(x)
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(5)).to(output.dtype)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    inputs = [x, *trained] if x.requires_grad else trained
    return [output.detach(), *torch.autograd.grad((output * weights).sum(), inputs)]


@pytest.mark.parametrize("options", [{}, {"use_rslora": True}, {"use_dora": True}], ids=["lora", "rslora", "dora"])
@pytest.mark.parametrize("kind", ["linear", "conv1d", "grid"])
def test_same_as_peft_in_float32(kind: str, options: dict[str, Any]) -> None:
    if kind == "grid" and "use_dora" in options:
        pytest.skip("peft can't measure the norm of packed weights")
    model, x = adapted(kind, **options), x_of()
    before = run(model, x)
    assert all(fast_lora_forward(layer) for layer in lora_layers(model))
    for found, expected in zip(run(model, x), before, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"use_dora": True}], ids=["lora", "dora"])
def test_bfloat16_base_keeps_float32_masters_and_gradients(options: dict[str, Any]) -> None:
    model, x = adapted(dtype=torch.bfloat16, **options), x_of(torch.bfloat16)
    true = adapted(dtype=torch.float32, **options)
    true.load_state_dict({name: tensor.float() for name, tensor in model.state_dict().items()})
    wanted = run(true, x.detach().float().requires_grad_(True))
    for layer in lora_layers(model):
        fast_lora_forward(layer)
    found = run(model, x)
    assert [tensor.dtype for tensor in found] == [torch.bfloat16] * 2 + [torch.float32] * (len(found) - 2)
    for tensor, expected in zip(found, wanted, strict=True):
        assert (tensor.float() - expected).norm() < 0.01 * expected.norm()


def test_no_bigger_tensor_than_the_input_is_kept() -> None:
    model, x = adapted(), x_of()
    kept: list[int] = []
    for layer in lora_layers(model):
        fast_lora_forward(layer)
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.shape[0]) or tensor, lambda tensor: tensor):
        lora_layers(model)[0](x)
    assert sorted(kept) == [R, 10, 10, O]  # A, the input, h, B


def test_dropout_is_peft_s() -> None:
    model, x = adapted(lora_dropout=0.5), x_of()
    model.train()
    before = run(model, x, seed=1)
    for layer in lora_layers(model):
        fast_lora_forward(layer)
    for found, expected in zip(run(model, x, seed=1), before, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    model.eval()
    assert not torch.allclose(model(x), before[0])


@pytest.mark.parametrize("fused", [True, False])
def test_an_optimizer_step_is_seen(fused: bool) -> None:
    model, x = adapted(dtype=torch.bfloat16), x_of(torch.bfloat16)
    for layer in lora_layers(model):
        fast_lora_forward(layer)
    optimizer = torch.optim.AdamW([parameter for parameter in model.parameters() if parameter.requires_grad], lr=0.1, fused=fused)
    before = model(x)
    before.sum().backward()
    optimizer.step()
    assert not torch.allclose(model(x), before, atol=1e-2)


def test_switching_and_merging_adapters_go_on_working() -> None:
    model, x = adapted(), x_of()
    own = model(x).detach()
    with model.disable_adapter():  # type: ignore[operator]
        base = model(x).detach()
    for layer in lora_layers(model):
        fast_lora_forward(layer)
    with model.disable_adapter():  # type: ignore[operator]
        torch.testing.assert_close(model(x), base)
    torch.testing.assert_close(model(x), own, rtol=1e-4, atol=1e-5)
    model.merge_adapter()  # type: ignore[operator]
    torch.testing.assert_close(model(x), own, rtol=1e-4, atol=1e-5)
    model.unmerge_adapter()  # type: ignore[operator]
    model.add_adapter("other", LoraConfig(r=2, target_modules=["first", "second"], init_lora_weights=False))  # type: ignore[operator]
    model.set_adapter("other")  # type: ignore[operator]
    other = model(x).detach()
    assert not torch.allclose(other, own, atol=1e-3)
    for layer in lora_layers(model):
        del layer.__dict__["forward"]
    torch.testing.assert_close(model(x), other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"use_dora": True}], ids=["lora", "dora"])
def test_layers_on_one_input_share_it(options: dict[str, Any]) -> None:
    model, x = adapted(**options), x_of()
    before = run(model, x)
    shared = SharedInput(lora_layers(model))
    both = nn.Module()
    both.pair = model
    both.forward = lambda x: torch.cat(shared(x), dim=-1)  # type: ignore[method-assign]
    for found, expected in zip(run(both, x), before, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_the_first_layer_makes_no_gradient_of_its_input(monkeypatch: pytest.MonkeyPatch) -> None:
    from tunesmith.train.fast import lora_linear

    needs: list[bool] = []
    own = lora_linear.product_gradients
    monkeypatch.setattr(lora_linear, "product_gradients", lambda *args, **named: needs.append(named["needs_rows"]) or own(*args, **named))
    model = adapted()
    for layer in lora_layers(model):
        fast_lora_forward(layer)
    model(x_of().detach()).sum().backward()
    model(x_of()).sum().backward()
    assert needs == [False, False, True, True]


def test_what_it_does_not_know_is_left_to_peft() -> None:
    trained = adapted()
    lora_layers(trained)[0].get_base_layer().weight.requires_grad_(True)
    assert not fast_lora_forward(lora_layers(trained)[0])
    assert not fast_lora_forward(lora_layers(adapted(lora_bias=True))[0])
    assert not fast_lora_forward(nn.Linear(2, 2))
    model, x = adapted(), x_of()
    for layer in lora_layers(model):
        fast_lora_forward(layer)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model(x).dtype == torch.bfloat16
