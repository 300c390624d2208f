"""Accelerated models of every family compute what they did, are given back as they were, and are never trusted blindly."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tiny_models import FAMILIES, tiny_model
from tunesmith.errors import UsageError
from tunesmith.methods.bottleneck import Bottleneck
from tunesmith.methods.full import Full
from tunesmith.methods.lora import Dora, Lora
from tunesmith.train.fast import TRICKS, accelerate_model, acceleration, restore_model, supervised_loss
from tunesmith.train.fast.acceleration import packing_of

METHODS = {"lora": Lora(rank=4), "dora": Dora(rank=4), "full": Full(), "adapter": Bottleneck(reduction_factor=4)}


def trained_model(family: str, method: str = "lora", dtype: torch.dtype = torch.float32, **changes: Any) -> nn.Module:
    """A model with a method's parameters moved away from where they start, in evaluation mode."""
    torch.manual_seed(2)
    model = METHODS[method].apply(tiny_model(family, **changes).to(dtype)).eval()
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name or ".up.weight" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.2
    return model


def batch(num_rows: int = 5, length: int = 14, shared: int = 3) -> tuple[Tensor, Tensor]:
    """Rows of different lengths that begin alike, with the answer at their end supervised."""
    generator = torch.Generator().manual_seed(0)
    input_ids = torch.randint(4, 380, (num_rows, length), generator=generator)
    input_ids[:, :shared] = input_ids[0, :shared]
    labels = torch.full_like(input_ids, -100)
    for row in range(num_rows):
        end = length - 2 * row
        labels[row, end - 4 : end] = input_ids[row, end - 4 : end]
    return input_ids, labels


def losses(model: nn.Module, rows: tuple[Tensor, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of a batch and the gradients of all trained parameters."""
    model.zero_grad()
    loss = supervised_loss(model, *rows).loss_sum
    loss.backward()
    return loss.detach(), {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_gradients_stay_the_same(family: str, method: str) -> None:
    model = trained_model(family, method)
    loss, gradients = losses(model, batch())
    assert accelerate_model(model)
    found, found_gradients = losses(model, batch())
    torch.testing.assert_close(found, loss, rtol=1e-5, atol=1e-4)
    assert found_gradients.keys() == gradients.keys()
    for name, expected in gradients.items():
        assert (found_gradients[name] - expected).norm() < 1e-4 * expected.norm() + 1e-6, name


@pytest.mark.parametrize("family", ["smollm", "qwen3", "gemma2", "gpt2"])
def test_bfloat16_is_about_as_far_from_float32_as_without(family: str) -> None:
    """Over several models: in one of these tiny ones rounding alone moves gradients by 2 to 30%."""

    def error(gradients: dict[str, Tensor], wanted: dict[str, Tensor]) -> float:
        return float(
            sum((gradients[name] - wanted[name]).norm() ** 2 for name in wanted) / sum(wanted[name].norm() ** 2 for name in wanted)
        )

    own, found = 0.0, 0.0
    for seed in range(5):
        model, true = trained_model(family, dtype=torch.bfloat16, seed=seed), trained_model(family, seed=seed)
        true.load_state_dict({name: tensor.float() for name, tensor in model.state_dict().items()})
        _, wanted = losses(true, batch())
        own += error(losses(model, batch())[1], wanted) ** 0.5 / 5
        accelerate_model(model)
        found += error(losses(model, batch())[1], wanted) ** 0.5 / 5
    assert 0 < found < 2 * own


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", ["smollm", "qwen3", "gemma2", "gpt2"])
def test_autocast_of_float32_weights_works_and_is_about_as_exact(family: str, method: str) -> None:
    model = trained_model(family, method)
    _, wanted = losses(model, batch())

    def error() -> float:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = supervised_loss(model, *batch()).loss_sum
        model.zero_grad()
        loss.backward()
        found = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
        assert found.keys() == wanted.keys()
        assert loss.dtype == torch.float32
        return float(sum((found[name] - wanted[name]).norm() ** 2 for name in wanted)) ** 0.5

    own = error()
    accelerate_model(model)
    assert error() < 2 * own


def test_every_trick_fits_llama_and_can_be_switched_off() -> None:
    model = trained_model("llama")
    assert accelerate_model(model) == list(TRICKS)
    loss, _ = losses(model, batch())
    for name in TRICKS:
        names = accelerate_model(model, disable=frozenset({name}))
        assert name not in names
        torch.testing.assert_close(losses(model, batch())[0], loss, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_packing_and_cheap_lora_fit_every_family(family: str) -> None:
    model = trained_model(family)
    assert {"lora", "attention", "packing"} <= set(accelerate_model(model))


def test_an_unknown_trick_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="'packing'"):
        accelerate_model(trained_model("llama"), disable=frozenset({"paking"}))


def test_restoring_leaves_nothing_behind(tmp_path: Path) -> None:
    model = trained_model("smollm")
    before, state = losses(model, batch())[0], {name: tensor.clone() for name, tensor in model.state_dict().items()}
    implementation = model.config._attn_implementation  # type: ignore[union-attr]
    accelerate_model(model)
    assert list(model.state_dict()) == list(state)
    restore_model(model)
    assert not [name for name, module in model.named_modules() if "forward" in module.__dict__]
    assert model.config._attn_implementation == implementation  # type: ignore[union-attr]
    assert packing_of(model) is None
    assert torch.equal(losses(model, batch())[0], before)
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    restore_model(model)


def test_what_is_saved_says_nothing_of_the_tricks(tmp_path: Path) -> None:
    model = tiny_model("smollm")
    accelerate_model(model)
    model.save_pretrained(tmp_path)
    assert "tunesmith" not in (tmp_path / "config.json").read_text()


def test_a_trick_that_changes_the_model_is_left_off_and_said(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def wrong(module: nn.Module) -> bool:
        if not type(module).__name__.endswith("RMSNorm"):
            return False
        module.forward = _half  # type: ignore[method-assign]
        return True

    def _half(x: Tensor) -> Tensor:
        return x / 2

    _half.__module__ = acceleration.__name__
    monkeypatch.setattr(acceleration.norm, "fast_norm_forward", wrong)
    model = trained_model("llama")
    loss, _ = losses(model, batch())
    with caplog.at_level(logging.WARNING):
        names = accelerate_model(model)
    assert names == [name for name in TRICKS if name != "norm"]
    assert "'norm'" in caplog.text
    torch.testing.assert_close(losses(model, batch())[0], loss, rtol=1e-5, atol=1e-4)


def test_rows_beyond_a_window_are_computed_padded() -> None:
    model = trained_model("gemma3")  # looks back 16 tokens in half of its layers
    rows = batch(num_rows=3, length=40)
    loss, gradients = losses(model, rows)
    assert "packing" in accelerate_model(model)
    packing = packing_of(model)
    assert packing is not None
    assert packing.max_row_tokens == 16
    found, found_gradients = losses(model, rows)
    torch.testing.assert_close(found, loss, rtol=1e-5, atol=1e-4)
    for name, expected in gradients.items():
        assert (found_gradients[name] - expected).norm() < 1e-4 * expected.norm() + 1e-6, name


def test_long_rows_go_through_fused_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    from tunesmith.train.fast import attention

    model = trained_model("llama")
    loss, _ = losses(model, batch())
    accelerate_model(model)
    monkeypatch.setattr(attention, "SHORT_ROW_TOKENS", 6)
    torch.testing.assert_close(losses(model, batch())[0], loss, rtol=1e-5, atol=1e-4)


def test_gradient_checkpointing_computes_the_same() -> None:
    model = trained_model("llama")
    _, gradients = losses(model, batch())
    accelerate_model(model)
    model.train()
    model.get_base_model().gradient_checkpointing_enable({"use_reentrant": False})  # type: ignore[operator]
    _, found = losses(model, batch())
    for name, expected in gradients.items():
        assert (found[name] - expected).norm() < 1e-4 * expected.norm() + 1e-6, name


def test_dropout_makes_rows_differ_so_their_beginning_is_not_shared() -> None:
    model = trained_model("gpt2")  # drops a tenth of embeddings, attention and residuals
    accelerate_model(model)
    packing = packing_of(model)
    assert packing is not None
    assert not packing.share_prefix
    torch.manual_seed(0)
    model.train()
    assert not torch.equal(losses(model, batch())[0], losses(model, batch())[0])


@pytest.mark.parametrize("family", FAMILIES)
def test_generation_with_a_cache_is_the_same(family: str) -> None:
    model = trained_model(family)
    input_ids, mask = batch(num_rows=2, length=9)[0], torch.ones(2, 9, dtype=torch.long)
    mask[1, :4] = 0
    options = {"attention_mask": mask, "max_new_tokens": 12, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    expected = model.generate(input_ids, **options)  # type: ignore[operator]
    accelerate_model(model)
    assert torch.equal(model.generate(input_ids, **options), expected)  # type: ignore[operator]
