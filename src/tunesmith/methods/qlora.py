"""QLoRA: LoRA on a frozen base in 4 or 8 bits, on the grid that ships with ONNX (``onnx-int4``, ``-int8``) or GGUF, or on NF4."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, cast

from tunesmith.errors import UsageError, nearest
from tunesmith.methods.lora import Lora, moves_base_weights

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedModel

    from tunesmith.models.heads import Head
    from tunesmith.models.sources import ModelSource

log = logging.getLogger(__name__)

QUANT_TYPES = ("auto", "nf4", "onnx-int4", "onnx-int8", "gguf-q4_0")

_GRID_WORDS = {
    "nf4": "NF4 (double quantization)",
    "onnx-int4": "the int4 grid of ONNX (symmetric, blocks of 32)",
    "onnx-int8": "the int8 grid of ONNX (symmetric, blocks of 32)",
    "gguf-q4_0": "the q4_0 grid of GGUF (symmetric, blocks of 32)",
}


@dataclass(frozen=True)
class QLora(Lora):
    """LoRA on a base in few bits. Same learning rate as LoRA.

    ``onnx-int4`` is exactly the grid that onnxruntime-genai's model builder ships at int4, ``onnx-int8`` the one at int8: the base that is
    trained on is the base that runs. A model tuned in bfloat16 and put on the int4 grid afterwards lost 13 of 89 points on banking77;
    tuned on it, none.

    Attributes:
        quant_type: ``"onnx-int4"``, ``"onnx-int8"``, ``"gguf-q4_0"`` (llama.cpp's), ``"nf4"`` (bitsandbytes, double quantization), or
            ``"auto"``: NF4 on CUDA, else the int4 grid of ONNX.
        base_grid: what :meth:`load_base` made, for :meth:`grid`.
    """

    quant_type: str = "auto"
    base_grid: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    name: ClassVar[str] = "qlora"
    options: ClassVar[Mapping[str, str]] = {**Lora.options, "quant_type": "quant_type"}

    def __post_init__(self) -> None:
        """Refuse values out of range, and ways to start that write into the frozen weights."""
        super().__post_init__()
        if self.quant_type not in QUANT_TYPES:
            raise UsageError(
                f"--quant_type {self.quant_type} is unknown; known: {', '.join(QUANT_TYPES)}",
                fix=nearest(self.quant_type, QUANT_TYPES) or None,
            )
        if moves_base_weights(self.init_lora_weights):
            raise UsageError(
                f"--init_lora_weights {self.init_lora_weights} changes the frozen weights, which are quantized with --method qlora",
                fix="Use it with --method lora, or leave it out.",
            )

    def quant_type_on(self, device: str) -> str:
        """Return the grid, never ``"auto"``, that is used on ``device`` (``auto``, ``cpu``, ``cuda``, ``cuda:N``, ``mps``)."""
        from tunesmith.models.precision import choose_device

        if self.quant_type != "auto":
            return self.quant_type
        return "nf4" if choose_device(device)[0].startswith("cuda") else "onnx-int4"

    def load_base(
        self, source: ModelSource, *, dtype: str, device: str, trust_remote_code: bool, task: str | Head = "text-generation"
    ) -> PreTrainedModel:
        """Return the base with its linear layers in few bits, everything else in ``dtype``.

        Raises:
            DependencyError: for NF4 without bitsandbytes.
            ModelError: for a model that can't be loaded, and names in ``modules_to_save`` that it doesn't have.
        """
        from tunesmith.methods.grid_model import put_on_grid
        from tunesmith.methods.nf4 import check_bitsandbytes, put_on_nf4
        from tunesmith.methods.targets import resolve_modules_to_save
        from tunesmith.models.load import load_model

        quant_type = self.quant_type_on(device)
        nf4 = quant_type == "nf4"
        if nf4:
            check_bitsandbytes()
        where, chosen = _choose(dtype, device)
        model = load_model(source, dtype=_stored_dtype(source), device="cpu", trust_remote_code=trust_remote_code, task=task)
        num_bytes = _num_bytes(model)
        whole = resolve_modules_to_save(model, self.modules_to_save)  # trained whole, so they can't be quantized
        record = (
            put_on_nf4(model, chosen, where, excluded=whole) if nf4 else put_on_grid(model, chosen, excluded=whole, quant_type=quant_type)
        )
        self.base_grid.clear()
        self.base_grid.update(record)
        what = _GRID_WORDS[quant_type]
        log.info(
            "The frozen base is on %s: %d layers, %.0f MB instead of %.0f.",
            what,
            record["layers"],
            _num_bytes(model) / 1e6,
            num_bytes / 1e6,
        )
        return cast("PreTrainedModel", model.to(where))

    def apply(self, model: PreTrainedModel) -> nn.Module:
        """Return ``model`` wrapped by peft: adapters trainable in float32, the base frozen in few bits."""
        conv1d = any(getattr(module, "transposed", False) for module in model.modules())
        peft_model = cast(Any, super().apply(model))
        if conv1d:  # what the plain base needs: there these layers are Conv1D again
            peft_model.peft_config[peft_model.active_adapter].fan_in_fan_out = True
        return cast("nn.Module", peft_model)

    def merge(self, model: nn.Module) -> PreTrainedModel:
        """Return the dequantized base with the adapter added to its weights in float32; they no longer lie on the grid."""
        import torch
        from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict

        from tunesmith.methods.dequantized import dequantize_model

        plain = dequantize_model(model, dtype=torch.float32)
        if not isinstance(model, PeftModel):
            return plain
        adapted = super().apply(plain)
        set_peft_model_state_dict(adapted, get_peft_model_state_dict(model, save_embedding_layers=False))
        return super().merge(adapted)

    def grid(self) -> dict[str, Any] | None:
        """Return the grid of the base that was loaded; before that, what is known without a model."""
        from tunesmith.methods.grid_model import grid_record
        from tunesmith.methods.nf4 import nf4_record

        quant_type = self.quant_type_on("auto")
        return dict(self.base_grid) or (nf4_record() if quant_type == "nf4" else grid_record(quant_type))


def _choose(dtype: str, device: str) -> tuple[str, torch.dtype]:
    """Device and dtype to compute in; what is used instead of what was asked for is said."""
    from tunesmith.hardware import detect
    from tunesmith.models.precision import choose_device, choose_dtype

    where, device_note = choose_device(device)
    chosen, dtype_note = choose_dtype(dtype, detect(gpus=where != "cpu"), device=where)
    for note in filter(None, (device_note, dtype_note)):
        log.warning(note)
    return where, chosen


def _stored_dtype(source: ModelSource) -> str:
    """The dtype to load the checkpoint in without rounding it: its own where this machine has no objection, else float32."""
    from tunesmith.hardware import detect
    from tunesmith.models.checks import read_config

    if source.kind == "gguf":
        return "float32"
    config = read_config(source.folder)
    stored = config.get("dtype") or config.get("torch_dtype") or config.get("text_config", {}).get("dtype")
    return "bfloat16" if stored == "bfloat16" and detect().bf16 else "float32"


def _num_bytes(model: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in [*model.parameters(), *model.buffers()])
