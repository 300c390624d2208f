"""The weights of a model as llama.cpp wants them: its names, its order of rows, its norms, in one of the formats of GGUF.

Legend: O outputs, I inputs, H heads.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tunesmith.errors import ModelError, UsageError, nearest
from tunesmith.export.gguf_architecture import Family, rotary_factors

if TYPE_CHECKING:
    import numpy as np
    from gguf import GGMLQuantizationType
    from torch import Tensor, nn

#: What the package ``gguf`` writes: our name -> its format of weight matrices. Vectors and norms stay float32 in all of them.
QUANTS: dict[str, str] = {
    "f32": "F32",
    "f16": "F16",
    "bf16": "BF16",
    "q8_0": "Q8_0",
    "q5_1": "Q5_1",
    "q5_0": "Q5_0",
    "q4_1": "Q4_1",
    "q4_0": "Q4_0",
}
_FILE_TYPES = {"f32": "ALL_F32"}


@dataclass(frozen=True)
class WrittenTensor:
    """One tensor of a file: name, values as they are written, their format."""

    name: str
    values: np.ndarray
    kind: GGMLQuantizationType


def check_quant(quant: str) -> str:
    """Return the name of a format as it is spelt here.

    Raises:
        UsageError: for one that can't be written, with those that can.
    """
    name = quant.lower().replace("-", "_")
    name = {"float32": "f32", "fp32": "f32", "float16": "f16", "fp16": "f16", "bfloat16": "bf16"}.get(name, name)
    if name in QUANTS:
        return name
    known = f"these can be written: {', '.join(QUANTS)}"
    if "_k" in name or name.startswith("iq"):
        message = f"GGUF's '{quant}' can only be made by llama.cpp's own llama-quantize; {known}"
        raise UsageError(message, fix="Take one of them, or f16 and then llama-quantize")
    raise UsageError(f"GGUF has no format '{quant}'; {known}", fix=nearest(name, QUANTS) or None)


def file_type(quant: str) -> int:
    """Return the number by which GGUF's head names a format."""
    from gguf import LlamaFileType

    return int(LlamaFileType[_FILE_TYPES.get(quant, f"MOSTLY_{QUANTS[quant]}")])


def named_weights(model: nn.Module, family: Family) -> Iterator[tuple[str, Tensor]]:
    """Yield every weight under llama.cpp's name, as float32 and in its order of rows; a tied output layer only once.

    Raises:
        ModelError: for a weight that llama.cpp has no place for.
    """
    import torch

    config: Any = model.config
    names = tensor_names(family, config.num_hidden_layers)
    _check_tied(model, family)
    for name, weight in model.named_parameters():
        if family.always_tied and name == "lm_head.weight":
            continue
        written = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if written is None:
            raise ModelError(f"llama.cpp has no place for the weight {name} in {family.architecture} models", fix="Merge adapters first")
        yield written, as_computed_there(name, weight.detach().float(), config, family)
    for name, factors in rotary_factors(config).items():
        yield name, torch.from_numpy(factors)


def format_of(name: str, shape: tuple[int, ...], quant: str) -> GGMLQuantizationType:
    """Return the format that a tensor is written in: that of the file for weight matrices, float32 for all else."""
    from gguf import GGMLQuantizationType

    matrix = len(shape) == 2 and name.endswith(".weight")
    return GGMLQuantizationType[QUANTS[quant]] if matrix else GGMLQuantizationType.F32


def check_rows(name: str, shape: tuple[int, ...], kind: GGMLQuantizationType) -> None:
    """Check that a tensor's rows are whole blocks of the format.

    Raises:
        ModelError: when they are not.
    """
    from gguf import GGML_QUANT_SIZES

    block = GGML_QUANT_SIZES[kind][0]
    if shape[-1] % block:
        raise ModelError(
            f"{name} has rows of {shape[-1]} numbers, and {kind.name.lower()} packs blocks of {block}", fix="Use f16, bf16 or f32"
        )


def encode(name: str, weight: Tensor, kind: GGMLQuantizationType) -> WrittenTensor:
    """Return a weight in a format.

    Raises:
        ModelError: when a value is not finite, or too large for the format.
    """
    import numpy as np
    from gguf import quants

    values = weight.contiguous().numpy()
    if not np.isfinite(values).all():
        raise ModelError(f"{name} holds values that are not finite numbers", fix="Check the training run, or use another model")
    with np.errstate(over="ignore", invalid="ignore"):
        written = quants.quantize(values, kind)
    if written.dtype == np.float16 and not np.isfinite(written).all():
        largest = float(np.abs(values).max())
        raise ModelError(f"{name} holds {largest:g}, more than float16 can (65504)", fix="Use bf16, q8_0 or f32")
    return WrittenTensor(name, written, kind)


def tensor_names(family: Family, num_layers: int) -> Any:
    """Return gguf's table of names: ``get_name`` gives llama.cpp's for one of transformers, None where there is no place for it."""
    from gguf import MODEL_ARCH_NAMES, get_tensor_name_map

    architecture = next(key for key, name in MODEL_ARCH_NAMES.items() if name == family.architecture)
    return get_tensor_name_map(architecture, num_layers)


def as_computed_there(name: str, weight: Tensor, config: Any, family: Family) -> Tensor:
    """Return a weight (or what is added to its rows) as llama.cpp computes with it.

    Args:
        name: in transformers.
        weight: ``(O, …)``.
        config: of the model.
        family: how it is computed.
    """
    if family.neighbours_rotate and ".q_proj." in name:
        return interleave_halves(weight, config.num_attention_heads)
    if family.neighbours_rotate and ".k_proj." in name:
        return interleave_halves(weight, config.num_key_value_heads)
    if family.norm_offset and name.endswith("norm.weight"):
        return weight + family.norm_offset
    return weight


def interleave_halves(weight: Tensor, num_heads: int) -> Tensor:
    """Reorder the rows of each head from ``x0 x1 … y0 y1 …`` to ``x0 y0 x1 y1 …``, where rotary embedding turns each ``(x, y)``.

    Args:
        weight: ``(O, …)`` with ``O = H * head_dim``.
        num_heads: ``H``.
    """
    halves = weight.reshape(num_heads, 2, weight.shape[0] // num_heads // 2, *weight.shape[1:])
    return halves.transpose(1, 2).reshape(weight.shape)


def _check_tied(model: Any, family: Family) -> None:
    """Check that a model whose output layer llama.cpp takes from the input embedding has it from there."""
    import torch

    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    if family.always_tied and head is not None and not torch.equal(head.weight, embedding.weight):
        raise ModelError(
            f"this model's output layer differs from its input embedding, and llama.cpp has one for both in {family.architecture} models",
            fix="Train without the output layer, or export to ONNX",
        )
