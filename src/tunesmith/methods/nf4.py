"""NF4: the frozen base in 4-bit normal floats with double quantization, by bitsandbytes (Dettmers et al. 2023, "QLoRA"), on GPU and CPU."""

from __future__ import annotations

import importlib.util
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from tunesmith.errors import DependencyError
from tunesmith.models.quiet import silence_kernel_advice
from tunesmith.models.structure import linear_names

if TYPE_CHECKING:
    from bitsandbytes.nn import Linear4bit
    from transformers import PreTrainedModel


def check_bitsandbytes() -> None:
    """Raise :class:`~tunesmith.errors.DependencyError` where bitsandbytes is not installed."""
    if importlib.util.find_spec("bitsandbytes") is None:
        raise DependencyError("bitsandbytes", "qlora", purpose="--quant_type nf4")


def put_on_nf4(model: PreTrainedModel, dtype: torch.dtype, device: str, *, excluded: Collection[str] = ()) -> dict[str, Any]:
    """Quantize the linear layers of the blocks of ``model``, in place, one after the other; the output layer stays in floating point.

    The layers are those of transformers' ``BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4",
    bnb_4bit_use_double_quant=True)``, bit for bit; done here, it works on every model that can be loaded, GGUF files too.

    Args:
        model: in floating point, on the CPU; quantized layers are moved to ``device`` one by one, then the rest.
        dtype: what the model computes in.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        excluded: full names of layers to leave in floating point.

    Returns: the quantization, as the manifest records it.
    """
    silence_kernel_advice()
    names = [name for name in linear_names(model) if name not in excluded]
    for name in names:
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, _quantized(model.get_submodule(name), dtype, device))
    for parameter in model.parameters():
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(device, dtype)
    model.config.dtype = dtype
    model.to(device)
    layers = {name for name, module in model.named_modules() if isinstance(module, nn.Linear | nn.Embedding)}
    return {**nf4_record(), "values": str(dtype).removeprefix("torch."), "layers": len(names), "excluded": sorted(layers - set(names))}


def nf4_record() -> dict[str, Any]:
    """Return what describes the quantization, whatever the model."""
    return {"quant_type": "nf4", "bits": 4, "block_size": 64, "double_quantization": True}


def is_nf4(layer: nn.Module) -> bool:
    """Say whether ``layer`` holds a weight of bitsandbytes; does not import it."""
    return isinstance(layer, nn.Linear) and hasattr(layer.weight, "quant_state")


def nf4_dtype(layer: Linear4bit) -> torch.dtype:
    """Return the dtype that the values of ``layer`` are made in, and so are exact in."""
    dtype: torch.dtype = layer.weight.quant_state.dtype
    return dtype


def dequantize_nf4(layer: Linear4bit) -> Tensor:
    """Return the values of ``layer`` as ``(O, I)``, in :func:`nf4_dtype`."""
    from bitsandbytes.functional import dequantize_4bit

    values: Tensor = dequantize_4bit(layer.weight.data, layer.weight.quant_state)
    return values


def _quantized(layer: nn.Module, dtype: torch.dtype, device: str) -> Linear4bit:
    from bitsandbytes.nn import Linear4bit, Params4bit

    assert isinstance(layer, nn.Linear | Conv1D)
    weight = layer.weight.detach().to(dtype)
    weight = weight.t().contiguous() if isinstance(layer, Conv1D) else weight
    num_outputs, num_inputs = weight.shape
    quantized = Linear4bit(num_inputs, num_outputs, bias=False, compute_dtype=dtype, quant_type="nf4", device="meta")
    quantized.weight = Params4bit(weight, requires_grad=False, quant_type="nf4", compress_statistics=True, module=quantized)
    if layer.bias is not None:
        quantized.bias = nn.Parameter(layer.bias.detach().to(dtype), requires_grad=False)
    # On CPUs with avx512_bf16, bitsandbytes 0.50 packs the weight anew at the first forward pass without gradient, rounds its scales to
    # bfloat16, and computes no gradient through it any more: training after the first evaluation would learn nothing, in silence.
    quantized.support_avx512bf16_for_cpu = False
    quantized.transposed = isinstance(layer, Conv1D)
    return quantized.to(device)
