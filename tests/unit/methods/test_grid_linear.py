"""Frozen layers on the int4 grid: same products and gradients as their values in float, nothing but packed weights kept."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from tunesmith.methods import grid_linear
from tunesmith.methods.grid import _two_codes
from tunesmith.methods.grid_linear import GridEmbedding, GridLinear, frozen_weight


def linear(num_inputs: int = 96, num_outputs: int = 80, *, bias: bool = False) -> nn.Linear:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Linear(num_inputs, num_outputs, bias=bias)


def in_float(layer: GridLinear, dtype: torch.dtype = torch.float32) -> nn.Linear:
    """An ordinary layer with the values of one on the grid."""
    plain = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None)
    plain.weight = nn.Parameter(layer.dequantize(dtype))
    if layer.bias is not None:
        plain.bias = nn.Parameter(layer.bias.to(dtype))
    return plain.requires_grad_(False)


def inputs(dtype: torch.dtype = torch.float32, num_inputs: int = 96) -> torch.Tensor:
    return torch.randn(2, 5, num_inputs, generator=torch.Generator().manual_seed(1)).to(dtype).requires_grad_()


def output_and_gradient(layer: Callable[[torch.Tensor], torch.Tensor], rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    rows = rows.detach().requires_grad_()
    outputs = layer(rows)
    (outputs.float() * torch.arange(outputs.shape[-1])).sum().backward()
    assert rows.grad is not None
    return outputs.detach(), rows.grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [False, True])
def test_same_output_and_gradient_as_the_values_in_float(bias: bool, dtype: torch.dtype) -> None:
    layer = GridLinear(linear(bias=bias))
    expected = output_and_gradient(in_float(layer, dtype), inputs(dtype))
    found = output_and_gradient(layer, inputs(dtype))
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == dtype
        torch.testing.assert_close(ours, theirs, rtol=0 if dtype == torch.float32 else 1e-2, atol=1e-5 if dtype == torch.float32 else 1e-2)


def test_inputs_that_fill_no_block() -> None:
    layer = GridLinear(linear(100))
    assert output_and_gradient(layer, inputs(num_inputs=100))[1].shape == (2, 5, 100)
    torch.testing.assert_close(layer(inputs(num_inputs=100)), in_float(layer)(inputs(num_inputs=100)))


def test_in_parts_as_in_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = GridLinear(linear(bias=True))
    whole = output_and_gradient(layer, inputs())
    monkeypatch.setattr(grid_linear, "_PRODUCT_WEIGHTS", 7 * 96)
    for part, piece in zip(output_and_gradient(layer, inputs()), whole, strict=True):
        torch.testing.assert_close(part, piece)


def test_a_sum_of_many_parts_is_not_taken_in_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = GridLinear(linear(32, 2048))
    rows = inputs(torch.bfloat16, 32)
    exact = output_and_gradient(in_float(layer, torch.bfloat16).float(), rows.float())[1]
    monkeypatch.setattr(grid_linear, "_PRODUCT_WEIGHTS", 32 * 4)
    found = output_and_gradient(layer, rows)[1].float()
    assert (found - exact).norm() < 0.003 * exact.norm()  # 0.02 with the sum in bfloat16


def test_conv1d_gives_what_it_gave_up_to_the_grid() -> None:
    conv = Conv1D(80, 96)
    layer = GridLinear(conv)
    assert (layer.in_features, layer.out_features, layer.transposed) == (96, 80, True)
    plain = GridLinear(nn.Linear(96, 80))
    assert not plain.transposed
    on_grid = copy.deepcopy(conv)
    on_grid.weight = nn.Parameter(layer.dequantize(torch.float32).t().contiguous())
    torch.testing.assert_close(layer(inputs()), on_grid(inputs()))
    assert (on_grid.weight - conv.weight).norm() < 0.12 * conv.weight.norm()


def test_only_packed_weights_are_kept_for_the_backward_pass() -> None:
    layer, kept = GridLinear(linear(512, 512)), list[torch.Tensor]()

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        layer(inputs(num_inputs=512))
    assert {tensor.data_ptr() for tensor in kept} == {layer.weight.data_ptr(), layer.scale_bits.data_ptr()}


def test_a_weight_takes_0_625_bytes_and_survives_a_change_of_dtype() -> None:
    layer = GridLinear(linear(512, 512))
    assert sum(tensor.nbytes for tensor in (*layer.parameters(), *layer.buffers())) == 0.625 * 512 * 512
    before = layer.dequantize(torch.float32)
    for change in (layer.bfloat16, layer.half, layer.float, lambda: layer.to(torch.bfloat16)):
        assert torch.equal(change().dequantize(torch.float32), before)
    restored = GridLinear(nn.Linear(512, 512, bias=False))
    restored.load_state_dict(layer.state_dict())
    assert torch.equal(restored.dequantize(torch.float32), before)


def test_it_trains_after_its_first_use_in_inference_mode() -> None:
    _two_codes.cache_clear()
    layer = GridLinear(linear())
    with torch.inference_mode():
        expected = layer(inputs())
    assert torch.equal(output_and_gradient(layer, inputs())[0], expected)


@pytest.mark.parametrize("part", [80 * 96, 7 * 96])
def test_the_dtype_is_that_of_the_input_and_under_autocast_its_own(part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grid_linear, "_PRODUCT_WEIGHTS", part)
    layer = GridLinear(linear(bias=True)).bfloat16()
    assert layer(inputs(torch.float32)).dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(inputs(torch.float32)).dtype == torch.bfloat16


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_gradient_checkpointing(use_reentrant: bool) -> None:
    layer = GridLinear(linear(96, 96))
    expected = output_and_gradient(lambda rows: layer(torch.tanh(layer(rows))), inputs())

    def checkpointed(rows: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = torch.utils.checkpoint.checkpoint(lambda x: layer(torch.tanh(layer(x))), rows, use_reentrant=use_reentrant)
        return result

    for ours, theirs in zip(output_and_gradient(checkpointed, inputs()), expected, strict=True):
        assert torch.equal(ours, theirs)


class ScaledEmbedding(nn.Embedding):
    """As Gemma 3's: the factor is rounded to the dtype of the rows."""

    def __init__(self, num_rows: int, width: int) -> None:
        super().__init__(num_rows, width)
        self.register_buffer("embed_scale", torch.tensor(9.797), persistent=False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_tied_embedding_reads_the_rows_of_the_output_layer(dtype: torch.dtype) -> None:
    head, ids = GridLinear(linear()), torch.tensor([[3, 3, 79], [0, 1, 2]])
    table = head.dequantize(dtype)
    embedding = GridEmbedding(nn.Embedding(80, 96), head, torch.float32).to(dtype)
    assert embedding.weight is head.weight
    assert torch.equal(embedding(ids), table[ids])
    assert torch.equal(embedding.dequantize(dtype), table)
    scaled = GridEmbedding(ScaledEmbedding(80, 96), head, dtype)
    assert torch.equal(scaled(ids), table[ids] * torch.tensor(9.797).to(dtype))


def test_the_weight_for_other_code_is_made_anew_for_layers_on_the_grid_only() -> None:
    plain, conv = linear(), Conv1D(80, 96)
    layer = GridLinear(plain)
    weight = frozen_weight(layer, torch.bfloat16)
    assert weight is not None
    assert torch.equal(weight, layer.dequantize(torch.bfloat16))
    assert frozen_weight(plain, torch.float32) is plain.weight
    assert frozen_weight(conv, torch.float32) is None
