"""Which layer lost it: the weights of an export, read back layer by layer, against those of the tuned model.

A weight that was not quantized must be the tuned model's. One that was lies within half a step of it (a step is the scale of its block),
a whole step at the ends of the range, where rounding is cut off; what is further off was not rounded but changed. A recipe that moves
weights on purpose (calibration) is compared, but not judged by that.

Found where the names of a graph say which layer a matrix is: in what onnxruntime-genai's model builder and onnxruntime's quantizer
write. What can't be matched is counted and said, and nothing is claimed of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tunesmith.export.tolerances import Judged

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import nn

    Weight = npt.NDArray[np.float32]

#: What exporters compute as one product, and the layers in it, in their order.
_TOGETHER = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}
#: A float weight may differ by so much of the largest of its matrix: adapters merged in another order of additions.
FLOAT_ERROR = 1e-5
#: The same for what is stored in 16 bits.
HALF_ERROR = 2e-3
#: A rounded weight may be so many times as far off as rounding can move it: a little for scales that are rounded themselves.
MOST_OVERRUN = 1.02


@dataclass(frozen=True)
class LayerError:
    """How far one matrix of an export is from the tuned model's.

    Attributes:
        name: of the layer, as the graph has it.
        relative: norm of the difference by the norm of the weights.
        largest: largest difference of a weight.
        scale: largest weight of the tuned model's matrix.
        overrun: largest difference, as a multiple of what rounding can be off; None for a matrix in floating point.
        exact_to: how far a float weight may be off, as part of ``scale``.
    """

    name: str
    relative: float
    largest: float
    scale: float
    overrun: float | None = None
    exact_to: float = FLOAT_ERROR

    @property
    def quantized(self) -> bool:
        """Whether the export stores it in few bits."""
        return self.overrun is not None

    @property
    def differs(self) -> bool:
        """Whether a weight is another one than the tuned model's, beyond the rounding of floats."""
        return not self.largest <= self.exact_to * max(self.scale, 1e-30)


@dataclass(frozen=True)
class Audit:
    """The weights of an export against the tuned model's.

    Attributes:
        layers: those that could be matched.
        unmatched: names of those that couldn't.
        rounded: whether quantized weights are the nearest values, so that more than a step off means changed.
        on_grid: whether quantized weights must be the tuned model's own, which lie on the grid.
    """

    layers: tuple[LayerError, ...]
    unmatched: tuple[str, ...] = ()
    rounded: bool = True
    on_grid: bool = False

    def failure(self, judged: Judged) -> str | None:
        """Return what is wrong with the weights in a sentence, None where nothing is.

        Args:
            judged: how the stage is judged; ``shown`` never fails.
        """
        if judged == "shown":
            return None
        changed = [layer for layer in self.layers if self._is_changed(layer)]
        if not changed:
            return None
        worst = max(changed, key=lambda layer: layer.relative if layer.overrun is None or self._must_be_equal(layer) else layer.overrun)
        others = f", and those of {len(changed) - 1} more layers too" if len(changed) > 1 else ""
        if worst.overrun is not None and not self._must_be_equal(worst):
            return (
                f"a weight of layer {worst.name} is {worst.overrun:.1f} times as far off the tuned model's as rounding can be: it was "
                f"changed, not rounded{others}"
            )
        return (
            f"the weights of layer {worst.name} are not the tuned model's: they differ by up to {worst.largest:.3g} "
            f"({worst.relative:.2%} of their norm){others}"
        )

    def _is_changed(self, layer: LayerError) -> bool:
        if layer.overrun is None or self._must_be_equal(layer):
            return layer.differs
        return self.rounded and not layer.overrun <= MOST_OVERRUN

    def _must_be_equal(self, layer: LayerError) -> bool:
        """Whether a quantized matrix has to be the tuned model's own; an adapter beside weights on the grid is rounded as others are."""
        return self.on_grid and ".lora_" not in layer.name

    def blame(self) -> str:
        """Return the layer that lost most, in words; empty where no layer could be matched."""
        lossy = [layer for layer in self.layers if layer.relative > FLOAT_ERROR]
        if not lossy:
            if not self.layers:
                return ""
            return f"no layer can be blamed: all {len(self.layers)} that could be compared have the tuned model's weights"
        worst = max(lossy, key=lambda layer: layer.relative)
        others = sorted(layer.relative for layer in lossy)
        middle = others[len(others) // 2]
        beside = f"the middle one of {len(lossy)} layers {_percent(middle)}"
        told = f"layer {worst.name} lost most: its weights are {_percent(worst.relative)} off ({beside})"
        return told + (f"; {len(self.unmatched)} matrices could not be compared" if self.unmatched else "")


def _percent(share: float) -> str:
    """Write a share, small ones with two digits that are not zero."""
    return f"{share:.1%}" if share >= 0.001 else f"{100 * share:.2g}%"


def audit(
    exported: Iterable[tuple[str, Weight, Weight | None, float]],
    expected: Callable[[str, tuple[int, ...]], Weight | None],
    *,
    rounded: bool = True,
    on_grid: bool = False,
) -> Audit:
    """Compare weights one matrix at a time.

    Args:
        exported: name, values, how far rounding can move each (None in floating point), and how exact floats are.
        expected: name and shape -> the tuned model's values, None where they say nothing.
        rounded, on_grid: see :class:`Audit`.
    """
    import numpy as np

    found, unmatched = [], []
    for name, values, reach, exact_to in exported:
        right = expected(name, values.shape)
        if right is None:
            unmatched.append(name)
            continue
        difference = np.abs(values - right)
        if values.ndim == 1 and "norm" in name and bool((np.abs(difference - 1) <= FLOAT_ERROR).all()):
            continue  # a norm that multiplies by 1 + weight (Gemma): the graph has the sum
        if not np.isfinite(difference).all():
            difference = np.where(np.isfinite(difference), difference, np.float32(np.finfo(np.float32).max))
        norm = float(np.linalg.norm(right)) or 1.0
        found.append(
            LayerError(
                name=name,
                relative=min(float(np.linalg.norm(difference)) / norm, 1e6),
                largest=float(difference.max(initial=0.0)),
                scale=float(np.abs(right).max(initial=0.0)),
                overrun=None if reach is None else _overrun(difference, reach),
                exact_to=exact_to,
            )
        )
    return Audit(tuple(found), tuple(unmatched), rounded, on_grid)


def _overrun(difference: Weight, reach: Weight) -> float:
    """Return the largest multiple of its reach that a difference is; of a block of zeros any difference is too much."""
    import numpy as np

    with np.errstate(divide="ignore", invalid="ignore"):
        multiples = np.where(difference == 0, np.float32(0), difference / np.abs(reach))
    return float(multiples.max(initial=0.0))


class TunedWeights:
    """The tuned model's weights by the names that exporters give them.

    Args:
        model: in float32, merged or with a LoRA adapter beside its weights.
    """

    def __init__(self, model: nn.Module) -> None:
        self._values: dict[str, Any] = {}
        for name, parameter in model.state_dict().items():
            if parameter.is_floating_point():
                self._values[_plain_name(name)] = parameter
        self._scaling = _lora_scaling(model)
        self._tied = _plain_name(_embedding_name(model))

    def __call__(self, name: str, shape: tuple[int, ...]) -> Weight | None:
        """Return the values that an exported weight of this name and shape should have, None where no weight of the model fits."""
        return next((found for found in self._candidates(name) if found.shape == shape), None)

    def _candidates(self, name: str) -> Iterator[Weight]:
        """Yield what a name can mean: a weight of the model, several computed as one, or a part of one that the model has as one."""
        import numpy as np

        yield from (self._array(one) for one in _names_in_model(name) if one in self._values)
        layer, _, kind = name.rpartition(".")
        around, _, leaf = layer.rpartition(".")
        if leaf in ("lora_A", "lora_B"):
            yield from self._low_rank(around, leaf)
        start = around + "." if around else ""
        if leaf in _TOGETHER:
            yield from self._joined([f"{start}{one}.{kind}" for one in _TOGETHER[leaf]])
        if leaf in _TOGETHER["gate_up_proj"]:
            for both in self._of(_names_in_model(f"{start}gate_up_proj.{kind}")):
                yield np.split(both, 2)[_TOGETHER["gate_up_proj"].index(leaf)]
        if name == "lm_head.weight":
            yield from self._of([self._tied])
        if "final_norm" in name:  # the graph counts it as one more layer
            yield from self._of(["model.norm.weight"])

    def _joined(self, names: Sequence[str]) -> Iterator[Weight]:
        import numpy as np

        parts = [next(self._candidates(name), None) for name in names]
        if all(part is not None for part in parts):
            yield np.concatenate([part for part in parts if part is not None])

    def _low_rank(self, layer: str, leaf: str) -> Iterator[Weight]:
        """A or B of all layers that a graph computes in one product with this one: A below A, B on the diagonal."""
        import numpy as np

        around, _, name = layer.rpartition(".")
        members = next((names for packed, names in _TOGETHER.items() if name in (packed, *names)), ())
        parts = [self._adapted(f"{around}.{one}") for one in members]
        rank = sum(len(a) for _, a, _ in parts)
        if not rank or any(not width for width, _, _ in parts):
            return
        if leaf == "lora_A":
            yield np.concatenate([a for _, a, _ in parts])
            return
        whole, row, column = np.zeros((sum(width for width, _, _ in parts), rank), dtype=np.float32), 0, 0
        for width, a, b in parts:
            whole[row : row + width, column : column + len(a)] = b
            row, column = row + width, column + len(a)
        yield whole

    def _adapted(self, layer: str) -> tuple[int, Weight, Weight]:
        """Outputs of a layer, its A and its B; both empty where it has no adapter, and no outputs where there is no such layer."""
        import numpy as np

        parts = ("weight", "lora_A.weight", "lora_B.weight")
        weight, a, b = (next(self._of(_names_in_model(f"{layer}.{part}")), None) for part in parts)
        if weight is None:
            return 0, np.zeros((0, 0), np.float32), np.zeros((0, 0), np.float32)
        none = np.zeros((0, weight.shape[1]), np.float32), np.zeros((len(weight), 0), np.float32)
        return (len(weight), *none) if a is None or b is None else (len(weight), a, b)

    def _of(self, names: Iterable[str]) -> Iterator[Weight]:
        return (self._array(name) for name in names if name in self._values)

    def _array(self, name: str) -> Weight:
        values: Weight = self._values[name].detach().float().cpu().numpy()
        return values * self._scaling[name] if name in self._scaling else values


def _plain_name(name: str) -> str:
    """A parameter's name without the wrappers of peft and the name of the adapter."""
    plain = name.removeprefix("base_model.model.").replace(".base_layer.", ".")
    return plain.replace(".lora_A.default.", ".lora_A.").replace(".lora_B.default.", ".lora_B.")


def _names_in_model(name: str) -> Iterator[str]:
    """Names in transformers for a name in a graph."""
    yield name
    if ".attn." in name:
        yield (swapped := name.replace(".attn.", ".self_attn."))
        yield swapped.replace("_norm.layernorm.", "_norm.")


def _lora_scaling(model: nn.Module) -> Mapping[str, float]:
    """The builder multiplies B by the adapter's scaling, so that A and B alone are the whole adapter."""
    found: dict[str, float] = {}
    for name, module in model.named_modules():
        scaling = getattr(module, "scaling", None)
        if isinstance(scaling, Mapping) and hasattr(module, "lora_B"):
            found |= {_plain_name(f"{name}.lora_B.{adapter}.weight"): float(value) for adapter, value in scaling.items()}
    return found


def _embedding_name(model: nn.Module) -> str:
    wrapped: Any = model
    embedding = wrapped.get_input_embeddings() if hasattr(model, "get_input_embeddings") else None
    return next((f"{name}.weight" for name, module in model.named_modules() if module is embedding), "")
