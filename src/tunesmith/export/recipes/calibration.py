"""What the layers of a float model take in on prompts and answers: what recipes that look at activations go by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import nn

from tunesmith.errors import ModelError
from tunesmith.export.recipes.layerwise import LayerInputs, Layerwise, Rows, inputs_of
from tunesmith.models.structure import output_embedding


@dataclass(frozen=True, eq=False)
class Activations:
    """What layers take in.

    Attributes:
        rows: the token ids that they were fed, for recipes that look again at a model that is quantized in part.
        inputs: by layer name; layers that are fed the same share one entry.
    """

    rows: tuple[tuple[int, ...], ...]
    inputs: Mapping[str, LayerInputs] = field(default_factory=dict)

    def of(self, name: str) -> LayerInputs:
        """Return what one layer takes in.

        Raises:
            ModelError: for a layer that wasn't looked at.
        """
        if name not in self.inputs:
            raise ModelError(f"what goes into {name} was not collected", fix="Collect activations for all layers")
        return self.inputs[name]


def collect(model: nn.Module, rows: Rows, names: Sequence[str] | None = None) -> Activations:
    """Run the model on rows and note what its linear layers take in.

    A block's matrices are ``I * I`` float32 for every input that its layers share: 13 MB a block for hidden states of 576. The hidden
    states of one block at a time are kept.

    Args:
        model: in float32.
        rows: token ids of prompts with their answers.
        names: of the layers; by default those of all decoder blocks and the output layer.

    Raises:
        DataError: without any token.
        ModelError: for a name that is none of these layers.
    """
    walk = Layerwise(model, rows)
    head = output_embedding(model)
    head_name = next(name for name, module in model.named_modules() if module is head)
    by_block = [
        [f"{block}.{name}" for name, layer in module.named_modules() if isinstance(layer, nn.Linear)] for block, module in walk.blocks
    ]
    known = [*(name for inside in by_block for name in inside), head_name]
    wanted = set(known if names is None else names)
    if unknown := wanted.difference(known):
        raise ModelError(f"the model has no linear layer {sorted(unknown)[0]}", fix=f"Its layers are called {known[0]}, …")
    found: dict[str, LayerInputs] = {}
    for index, inside in enumerate(by_block):
        if here := [name for name in inside if name in wanted]:
            inputs, walk.states = walk.inputs(index, here)
            found |= inputs
        else:
            walk.states = walk.run(index, walk.states)
    if head_name in wanted:
        found[head_name] = inputs_of(walk.final(walk.states))
    return Activations(tuple(tuple(row) for row in rows), found)
