"""A recipe for the weights of a decoder: how they are rounded, into what, and which parts keep 8 bits."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from torch import Tensor, nn

from tunesmith.errors import ModelError, UsageError
from tunesmith.export.recipes.blocks import BlockFormat, Blocks
from tunesmith.export.recipes.half_quadratic import half_quadratic
from tunesmith.export.recipes.k_quant import k_quant
from tunesmith.export.recipes.methods import compensated, round_each, scaled, values_in, weight_of
from tunesmith.export.recipes.rounding import round_to_nearest
from tunesmith.models.structure import decoder_blocks, output_embedding

if TYPE_CHECKING:
    from tunesmith.export.recipes.calibration import Activations
    from tunesmith.export.recipes.methods import RoundOne

Method = Literal["rtn", "hqq", "k_quant", "gptq", "awq", "awq+gptq"]
Head = Literal["same", "int8"]
METHODS: tuple[Method, ...] = get_args(Method)
HEADS: tuple[Head, ...] = get_args(Head)
#: What looks at weights only, and how it rounds one.
_BY_WEIGHTS: dict[Method, RoundOne] = {"rtn": round_to_nearest, "hqq": half_quadratic, "k_quant": k_quant}
#: What fits zero points, so that there have to be some.
_FIT_ZERO_POINTS = ("hqq", "k_quant")


@dataclass(frozen=True)
class WeightRecipe:
    """How every matrix of a decoder is stored.

    Attributes:
        method: how weights are rounded.
        format: of every matrix that nothing below names.
        higher: names of modules (or of modules around them: ``model.layers.3.mlp``) that are rounded to the nearest of 8 bits, symmetric,
            in blocks of the same size.
        head: the output layer, and an embedding tied to it: like the others, or in 8 bits as ``higher``.

    Raises:
        UsageError: for a method or a head that isn't known, and for a symmetric format where the method fits zero points.
    """

    method: Method
    format: BlockFormat
    higher: tuple[str, ...] = ()
    head: Head = "same"

    def __post_init__(self) -> None:
        for value, known, what in ((self.method, METHODS, "recipe"), (self.head, HEADS, "head")):
            if value not in known:
                raise UsageError(f"the {what} '{value}' is not known; there are: {', '.join(known)}")
        if self.method in _FIT_ZERO_POINTS and self.format.symmetric:
            raise UsageError(f"the recipe {self.method} fits zero points, a symmetric format has none", fix="Take one with zero points")

    @property
    def needs_activations(self) -> bool:
        """Whether it looks at what layers take in, so that it has to be calibrated."""
        return self.method not in _BY_WEIGHTS

    @property
    def name(self) -> str:
        """Short words for tables: ``int4 gptq, blocks of 32, head int8``."""
        bits, comma, blocks = self.format.name.partition(",")
        words = f"{bits} {self.method}{comma}{blocks}"
        if self.higher:
            words += f", {len(self.higher)} part{'s' if len(self.higher) > 1 else ''} int8"
        return words if self.head == "same" else f"{words}, head {self.head}"

    @property
    def higher_format(self) -> BlockFormat:
        """Of the parts that keep 8 bits."""
        return BlockFormat(bits=8, block_size=self.format.block_size, symmetric=True)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"method": self.method, "format": self.format.to_dict(), "higher": list(self.higher), "head": self.head}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> WeightRecipe:
        """Read what :meth:`to_dict` wrote; ``higher`` and ``head`` may be missing.

        Raises:
            UsageError: for a method, format or head that isn't known.
        """
        block_format = BlockFormat.from_dict(values["format"])
        return cls(values["method"], block_format, tuple(values.get("higher") or ()), values.get("head", "same"))

    def key(self) -> str:
        """Return a hash that is the same wherever and whenever the recipe is."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()[:16]


class QuantizedWeights(dict[str, Blocks]):
    """Module name -> its matrix in blocks, and what else of the model a recipe changes.

    Attributes:
        floats: parameter name -> new value in floating point: norms and biases that took in scales of the weights. Empty for recipes that
            leave them alone. Blocks and these belong together: neither is of use with the other part of the tuned model.
    """

    def __init__(self, blocks: Mapping[str, Blocks], floats: Mapping[str, Tensor] | None = None) -> None:
        super().__init__(blocks)
        self.floats = dict(floats or {})


def quantize(model: nn.Module, recipe: WeightRecipe, activations: Activations | None = None) -> QuantizedWeights:
    """Return every matrix of the decoder in blocks; the model itself stays as it is.

    Args:
        model: in float32 on the CPU, adapters merged.
        recipe: what to do.
        activations: what the layers take in; for recipes that look at it.

    Returns: blocks by module name, in the model's order, the output layer's last. An embedding tied to it takes the same values; one that
        isn't stays in floating point, as the model builder leaves it.
    Raises:
        UsageError: without activations for a recipe that looks at them.
        ModelError: for a name in ``higher`` that the model has no layer under, for weights that are not finite, and for a model that
            ``awq`` doesn't know.
    """
    formats, chosen = layer_formats(model, recipe), recipe.format
    if recipe.method in _BY_WEIGHTS:
        return QuantizedWeights(round_each(model, formats, chosen, _BY_WEIGHTS[recipe.method]))
    if activations is None:
        raise UsageError(f"the recipe {recipe.method} has to be calibrated, no rows were given for that", fix="Give rows, or take rtn")
    if recipe.method == "gptq":
        return QuantizedWeights(compensated(model, formats, chosen, activations))
    with scaled(model, formats, chosen, activations) as floats:
        if recipe.method == "awq":
            return QuantizedWeights(round_each(model, formats, chosen, round_to_nearest), floats)
        return QuantizedWeights(compensated(model, formats, chosen, activations), floats)


def size_bytes(model: nn.Module, recipe: WeightRecipe) -> int:
    """Return what the ONNX files will take: matrices in blocks, everything else in float32, and tables made from the configuration."""
    formats = layer_formats(model, recipe)
    weights = {name: weight_of(model, name) for name in formats}
    in_blocks = {id(weight) for weight in weights.values()}
    total = sum(formats[name].bytes_for(*weight.shape) for name, weight in weights.items())
    total += sum(4 * parameter.numel() for parameter in model.parameters() if id(parameter) not in in_blocks)
    return total + _rotary_bytes(model) + _GRAPH_BYTES_A_BLOCK * len(decoder_blocks(model))


@contextlib.contextmanager
def quantized_values(model: nn.Module, blocks: Mapping[str, Blocks]) -> Iterator[nn.Module]:
    """Yield the model with the values of its blocks in it, tied embedding and changed floats too; afterwards it is what it was, to the bit.

    Args:
        model: the one that was quantized.
        blocks: from :func:`quantize`, or some of them.

    Raises:
        ModelError: for blocks of a layer that the model doesn't have.
    """
    layers = dict(model.named_modules())
    for name, one in blocks.items():
        weight = getattr(layers.get(name), "weight", None)
        if not isinstance(weight, nn.Parameter) or weight.shape != (one.num_outputs, one.num_inputs):
            raise ModelError(
                f"there are blocks of ({one.num_outputs}, {one.num_inputs}) for {name}, which the model has no such matrix for"
            )
    floats = blocks.floats if isinstance(blocks, QuantizedWeights) else {}
    with values_in(model, {**{f"{name}.weight": one.values() for name, one in blocks.items()}, **floats}):
        yield model


def layer_formats(model: nn.Module, recipe: WeightRecipe) -> dict[str, BlockFormat]:
    """Return the format of every matrix that is stored in blocks: the linear layers of all decoder blocks, then the output layer.

    Raises:
        ModelError: for a name in ``higher`` that no layer is under.
    """
    head = head_name(model)
    names = [*(f"{block}.{name}" for block, module in decoder_blocks(model) for name in _linear_in(module)), head]
    for wanted in recipe.higher:
        if not any(_is_under(name, wanted) for name in names):
            raise ModelError(f"{wanted} can't be kept at 8 bits: the model has no such layer", fix=f"Its layers are called {names[0]}, …")
    higher = {name for name in names if any(_is_under(name, wanted) for wanted in recipe.higher)}
    higher |= {head} if recipe.head == "int8" else set()
    return {name: recipe.higher_format if name in higher else recipe.format for name in names}


def head_name(model: nn.Module) -> str:
    """Return the name of the output layer."""
    head = output_embedding(model)
    names: list[str] = [name for name, module in model.named_modules() if module is head]
    return names[0]


def _linear_in(block: nn.Module) -> list[str]:
    return [name for name, module in block.named_modules() if isinstance(module, nn.Linear)]


def _is_under(name: str, wanted: str) -> bool:
    return name == wanted or name.startswith(f"{wanted}.")


#: Nodes and names of one decoder block in the graph.
_GRAPH_BYTES_A_BLOCK = 7_500


def _rotary_bytes(model: nn.Module) -> int:
    """Tables of cosines and sines, one value for every position and half the dimensions of a head."""
    config: Any = model.config
    text = config.get_text_config()
    positions, heads = getattr(text, "max_position_embeddings", 0), getattr(text, "num_attention_heads", 1)
    head_size = getattr(text, "head_dim", None) or text.hidden_size // heads
    return 2 * 4 * int(positions) * (int(head_size) // 2)
