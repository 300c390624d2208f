"""Fine-tuning methods: what is trainable, how it is saved and loaded, how it is merged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, cast

from tunesmith.errors import UsageError
from tunesmith.registry import Registry

if TYPE_CHECKING:
    from tunesmith.methods.protocol import Method

METHODS = Registry(
    "method",
    {
        "lora": "tunesmith.methods.lora:Lora",
        "dora": "tunesmith.methods.lora:Dora",
        "qlora": "tunesmith.methods.qlora:QLora",
        "full": "tunesmith.methods.full:Full",
        "adapter": "tunesmith.methods.bottleneck:Bottleneck",
    },
)


class _MethodClass(Protocol):
    options: Mapping[str, str]
    __call__: Callable[..., Method]


def build_method(
    name: str,
    *,
    lora_r: int | None = None,
    lora_alpha: float | None = None,
    lora_dropout: float | None = None,
    target_modules: str | Sequence[str] | None = None,
    modules_to_save: str | Sequence[str] | None = None,
    use_rslora: bool | None = None,
    init_lora_weights: bool | str | None = None,
    layers_to_transform: int | str | Sequence[int] | None = None,
    quant_type: str | None = None,
    adapter_reduction_factor: float | None = None,
    adapter_placement: str | None = None,
    explicit: frozenset[str] | None = None,
) -> Method:
    """Return the method ``name`` with the options that are given; ``None`` leaves the method's own default.

    Args:
        name: a name in :data:`METHODS`.
        target_modules: ``"all-linear"``, one name, a comma list or a sequence of names.
        layers_to_transform: indices of decoder blocks, counted from 0: a number, a comma list or a sequence.
        explicit: the options that the user gave himself; those without effect on this method are refused, others are left out in silence.
            ``None`` means that every option that is not ``None`` was.

    Raises:
        UsageError: for an unknown method, options that have no effect on it (all named at once), or values out of range.
    """
    given = {
        "lora_r": lora_r,
        "lora_alpha": lora_alpha,
        "lora_dropout": lora_dropout,
        "target_modules": _names("target_modules", target_modules),
        "modules_to_save": _names("modules_to_save", modules_to_save),
        "use_rslora": use_rslora,
        "init_lora_weights": init_lora_weights,
        "layers_to_transform": _indices(layers_to_transform),
        "quant_type": quant_type,
        "adapter_reduction_factor": adapter_reduction_factor,
        "adapter_placement": adapter_placement,
    }
    given = {option: value for option, value in given.items() if value is not None}
    method_class = cast(_MethodClass, METHODS.load(name))
    _refuse_without_effect(name, method_class.options, given if explicit is None else explicit & given.keys())
    return method_class(**{field: given[option] for option, field in method_class.options.items() if option in given})


def _refuse_without_effect(name: str, known: Mapping[str, str], asked: Mapping[str, object] | frozenset[str]) -> None:
    idle = sorted(set(asked) - set(known))
    if idle:
        flags = ", ".join(f"--{option}" for option in idle)
        verb = "have" if len(idle) > 1 else "has"
        raise UsageError(f"{flags} {verb} no effect with --method {name}", fix=f"Leave {flags} out, or choose another method.")


def _names(option: str, value: str | Sequence[str] | None) -> str | tuple[str, ...] | None:
    if value is None or value == "all-linear":
        return value if value is None else "all-linear"
    names = tuple(part.strip() for part in (value.split(",") if isinstance(value, str) else value))
    if not all(names) or not names:
        raise UsageError(f"--{option} has an empty name in {value!r}", fix="Separate names by single commas: q_proj,v_proj")
    return "all-linear" if names == ("all-linear",) else names


def _indices(value: int | str | Sequence[int] | None) -> tuple[int, ...] | None:
    if value is None:
        return None
    parts: Sequence[int | str] = [value] if isinstance(value, int) else value.split(",") if isinstance(value, str) else value
    try:
        return tuple(sorted({int(part) for part in parts}))
    except ValueError:
        raise UsageError(f"--layers_to_transform takes numbers of decoder blocks, found {value!r}", fix="For example: 0,1,2") from None
