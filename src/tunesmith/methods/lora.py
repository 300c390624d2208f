"""LoRA and DoRA through peft, saved in its format.

LoRA (Hu et al. 2022): ``y = W x + (alpha / R) B A x`` with ``W (out, in)`` frozen, ``A (R, in)`` and ``B (out, R)`` trained.
DoRA (Liu et al. 2024): ``y = m * (W + (alpha / R) B A) x / ||W + (alpha / R) B A||``, norms by row, the magnitude ``m (out,)`` trained too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from tunesmith.errors import ModelError, UsageError
from tunesmith.methods.protocol import scale_learning_rate, trainable_parameters
from tunesmith.methods.targets import check_layers, resolve_modules_to_save, resolve_target_modules

if TYPE_CHECKING:
    from peft import LoraConfig
    from torch import nn
    from transformers import PreTrainedModel

    from tunesmith.models.heads import Head
    from tunesmith.models.sources import ModelSource

_INITIALIZATIONS = ("gaussian", "orthogonal", "olora", "pissa")
#: peft knows these too, but each needs something that isn't there when training starts.
_UNSUPPORTED_INITIALIZATIONS = {
    "eva": "it needs passes over the data before training",
    "corda": "it needs covariances of activations collected beforehand",
    "lora_ga": "it needs gradients collected beforehand",
    "loftq": "it quantizes the base itself; --method qlora does that",
    "mica": "it freezes one of the two matrices and is not tested here",
}


@dataclass(frozen=True)
class Lora:
    """Low-rank adapters on linear layers.

    ``alpha`` stays 32 when the rank changes, so that the learning rate needn't (Schulman et al. 2025, "LoRA Without Regret").

    Learning rate: 1e-3 for the 135M sample model, measured with rank 16 on all linear layers (89% exact answers on banking77 after one
    epoch); 2.7e-4 at 7B, where 2e-4 is usual.

    Attributes:
        rank: ``R``, columns of ``B`` and rows of ``A``.
        alpha: the product is scaled by ``alpha / rank``, with ``use_rslora`` by ``alpha / sqrt(rank)`` (Kalajdzievski 2023).
        dropout: share of the adapter's inputs set to zero in training.
        target_modules: ``"all-linear"`` (all linear layers of the decoder blocks) or names of modules.
        modules_to_save: names of modules trained and saved whole; of tied embeddings, naming either trains both.
        init_lora_weights: ``True`` (``A`` Kaiming uniform, ``B`` zero), ``False`` (both random), ``"gaussian"``, ``"orthogonal"``,
            ``"olora"``, ``"pissa"`` or ``"pissa_niter_N"``. The last three move part of the frozen weights into the adapter; :meth:`save`
            turns them into a plain adapter of twice the rank that fits the untouched base.
        layers_to_transform: numbers of the decoder blocks that get adapters, all when ``None``.
        trainable_tokens: ids of added tokens whose rows in the embedding are trained (and saved).
    """

    rank: int = 16
    alpha: float = 32
    dropout: float = 0.0
    target_modules: str | tuple[str, ...] = "all-linear"
    modules_to_save: tuple[str, ...] = ()
    use_rslora: bool = False
    init_lora_weights: bool | str = True
    layers_to_transform: tuple[int, ...] | None = None
    trainable_tokens: tuple[int, ...] = ()

    name: ClassVar[str] = "lora"
    options: ClassVar[Mapping[str, str]] = {
        "lora_r": "rank",
        "lora_alpha": "alpha",
        "lora_dropout": "dropout",
        "target_modules": "target_modules",
        "modules_to_save": "modules_to_save",
        "use_rslora": "use_rslora",
        "init_lora_weights": "init_lora_weights",
        "layers_to_transform": "layers_to_transform",
    }
    default_learning_rate: ClassVar[float] = 1e-3
    saves_adapter: ClassVar[bool] = True
    use_dora: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Refuse values out of range, all of them in one message."""
        problems = [
            *([f"--lora_r must be 1 or more, found {self.rank}"] if self.rank < 1 else []),
            *([f"--lora_alpha must be above 0, found {self.alpha}"] if self.alpha <= 0 else []),
            *([f"--lora_dropout must be at least 0 and below 1, found {self.dropout}"] if not 0 <= self.dropout < 1 else []),
            *_initialization_problems(self.init_lora_weights, dora=self.use_dora),
        ]
        if problems:
            raise UsageError("; ".join(problems))

    def learning_rate(self, num_parameters: int) -> float:
        """Return the default peak learning rate for a model of ``num_parameters``."""
        return scale_learning_rate(self.default_learning_rate, num_parameters)

    def load_base(
        self, source: ModelSource, *, dtype: str, device: str, trust_remote_code: bool, task: str | Head = "text-generation"
    ) -> PreTrainedModel:
        """Return the base as it is; it stays frozen."""
        from tunesmith.models.load import load_model

        return load_model(source, dtype=dtype, device=device, trust_remote_code=trust_remote_code, task=task)

    def apply(self, model: PreTrainedModel) -> nn.Module:
        """Return ``model`` wrapped by peft: adapters trainable in float32, the base frozen.

        Raises:
            ModelError: for modules or blocks that the model doesn't have.
        """
        from tunesmith.methods.peft_adapter import attach

        return cast("nn.Module", attach(model, self.peft_config(model)))

    def peft_config(self, model: PreTrainedModel) -> LoraConfig:
        """Return peft's configuration for ``model``, every name resolved to modules that exist.

        Raises:
            ModelError: for modules or blocks that the model doesn't have, and for combinations that can't be right on it.
        """
        from peft import LoraConfig

        self._refuse_olora_on_conv1d(model)
        targets = resolve_target_modules(model, self.target_modules)
        to_save, tied = _modules_to_save(model, self.modules_to_save, targets)
        return LoraConfig(
            task_type=_peft_task(model),
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=targets,
            modules_to_save=to_save or None,
            use_rslora=self.use_rslora,
            use_dora=self.use_dora,
            init_lora_weights=self.init_lora_weights,
            layers_to_transform=check_layers(model, self.layers_to_transform),
            ensure_weight_tying=tied,
            fan_in_fan_out=_has_conv1d(model),
            trainable_token_indices=self._token_rows(model),
        )

    def trainable(self, model: nn.Module) -> dict[str, nn.Parameter]:
        """Return the adapter's parameters by name."""
        return trainable_parameters(model)

    def save(self, model: nn.Module, folder: Path) -> None:
        """Write ``adapter_model.safetensors`` and ``adapter_config.json`` as peft reads them."""
        from tunesmith.methods.peft_adapter import save_adapter

        save_adapter(model, folder)

    def merge(self, model: nn.Module) -> PreTrainedModel:
        """Return the base with the adapter added to its weights in float32; ``model`` is used up."""
        from tunesmith.methods.adapters import merge_adapter

        return merge_adapter(model)

    def grid(self) -> dict[str, Any] | None:
        """Return ``None``: the base is in floating point."""
        return None

    def _token_rows(self, model: PreTrainedModel) -> dict[str, list[int]] | None:
        """Rows trained in each embedding; the output embedding needs its own unless it shares the input embedding's."""
        if not self.trainable_tokens:
            return None
        names = {id(module): name for name, module in model.named_modules()}
        embeddings = [model.get_input_embeddings(), *([] if _tied_embedding_names(model) else [model.get_output_embeddings()])]
        return {names[id(module)]: list(self.trainable_tokens) for module in embeddings}

    def _refuse_olora_on_conv1d(self, model: nn.Module) -> None:
        if self.init_lora_weights == "olora" and _has_conv1d(model):
            raise ModelError(
                "--init_lora_weights olora takes weights as (out, in), this model (GPT-2) stores them as (in, out)",
                fix="Use pissa, which knows both.",
            )


@dataclass(frozen=True)
class Dora(Lora):
    """LoRA with a trained magnitude for every output; slower, often better at low ranks. Same learning rate as LoRA, as in its paper."""

    name: ClassVar[str] = "dora"
    use_dora: ClassVar[bool] = True


def _initialization_problems(init: bool | str, *, dora: bool) -> list[str]:
    if isinstance(init, bool):
        return []
    if init in _UNSUPPORTED_INITIALIZATIONS:
        return [f"--init_lora_weights {init} is not supported: {_UNSUPPORTED_INITIALIZATIONS[init]}"]
    if init not in _INITIALIZATIONS and not re.fullmatch(r"pissa_niter_\d+", init):
        return [f"--init_lora_weights {init} is unknown; known: true, false, {', '.join(_INITIALIZATIONS)}, pissa_niter_N"]
    if dora and moves_base_weights(init):
        return [f"--init_lora_weights {init} takes from the weights that DoRA's magnitudes are measured on; it works with --method lora"]
    return []


def moves_base_weights(init: bool | str) -> bool:
    """Whether an initialization takes something out of the frozen weights, so that the adapter fits only the changed base."""
    return isinstance(init, str) and (init == "olora" or init.startswith("pissa"))


def _modules_to_save(model: PreTrainedModel, names: tuple[str, ...], targets: list[str]) -> tuple[list[str], bool]:
    """Return full names, and whether tied embeddings are among them: then both are named, and peft trains one copy for both."""
    full_names = resolve_modules_to_save(model, names)
    twice = [name for name in full_names if any(name == target or name.endswith(f".{target}") for target in targets)]
    if twice:
        raise ModelError(f"{', '.join(twice)} can't be in --modules_to_save and --target_modules at once", fix="Leave one out.")
    tied = _tied_embedding_names(model)
    if not set(tied).intersection(full_names):
        return full_names, False
    if any(name.rpartition(".")[2] in targets for name in tied):
        raise ModelError(f"{' and '.join(tied)} share their weights: one can't be in --modules_to_save and the other in --target_modules")
    # peft ties them only when it meets a name that it knows for an embedding: GPT-2's wte is none, its lm_head is. So both are named.
    return [*tied, *(name for name in full_names if name not in tied)], True


def _peft_task(model: PreTrainedModel) -> str | None:
    """What peft calls the kind of model; None for one with a head, whose modules are named here and not guessed by peft."""
    if not model.can_generate():
        return None
    return "SEQ_2_SEQ_LM" if model.config.is_encoder_decoder else "CAUSAL_LM"


def _tied_embedding_names(model: PreTrainedModel) -> list[str]:
    """Names of input and output embedding when they share one matrix, else nothing."""
    source, output = model.get_input_embeddings(), model.get_output_embeddings()
    if output is None or output.weight is not source.weight:
        return []
    names = {id(module): name for name, module in model.named_modules()}
    return [names[id(source)], names[id(output)]]


def _has_conv1d(model: nn.Module) -> bool:
    from transformers.pytorch_utils import Conv1D

    return any(isinstance(module, Conv1D) for module in model.modules())
