"""The modules of a bottleneck adapter, and putting them on a model and off again.

B batch, T tokens, D hidden, K bottleneck (``D / reduction_factor``).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from tunesmith.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PLACEMENTS = ("houlsby", "pfeiffer")
#: The nonlinearity that goes with a placement in AdapterHub's DoubleSeqBnConfig (Houlsby) and SeqBnConfig (Pfeiffer).
_ACTIVATIONS = {"houlsby": nn.SiLU, "pfeiffer": nn.ReLU}
#: Norms that some families put at the end of a residual branch (Gemma 2 and 3, GLM 4): what they return is what is added to the stream.
_BRANCH_NORMS = (("post_attention_layernorm", "post_feedforward_layernorm"), ("post_self_attn_layernorm", "post_mlp_layernorm"))


class BottleneckLayer(nn.Module):
    """``h + up(activation(down(h)))`` in float32, given back in the dtype of ``h``; the identity at the start, ``up`` being zero."""

    def __init__(self, hidden_size: int, reduction_factor: float, placement: str) -> None:
        super().__init__()
        width = max(1, int(hidden_size / reduction_factor))
        self.down = nn.Linear(hidden_size, width)
        self.activation = _ACTIVATIONS[placement]()
        self.up = nn.Linear(width, hidden_size)
        self.hook: RemovableHandle | None = None
        nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5))
        nn.init.zeros_(self.down.bias)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Return the adapted ``hidden_states``, ``(B, T, D)`` in and out."""
        change: torch.Tensor = self.up(self.activation(self.down(hidden_states.to(self.down.weight.dtype))))
        return hidden_states + change.to(hidden_states.dtype)


def attach_layers(model: PreTrainedModel, reduction_factor: float, placement: str) -> None:
    """Put fresh adapters on ``model``, everything else frozen.

    An adapter is a child named ``bottleneck`` of the module whose output it changes, and a hook on that module calls it: no parameter of
    the base gets another name, and whatever runs the module (generation, gradient checkpointing) runs the adapter.

    Raises:
        ModelError: when the model carries a bottleneck adapter already.
    """
    if adapter_layers(model):
        raise ModelError("the model carries a bottleneck adapter already", fix="Remove it first, or start from the plain base.")
    model.requires_grad_(False)
    hidden_size = model.config.get_text_config().hidden_size
    for host in _branch_ends(model, placement):
        layer = BottleneckLayer(hidden_size, reduction_factor, placement).to(next(host.parameters()).device).train(host.training)
        host.bottleneck = layer
        layer.hook = host.register_forward_hook(_adapt_output)


def adapter_layers(model: nn.Module) -> dict[str, BottleneckLayer]:
    """Return the bottleneck layers of ``model`` by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, BottleneckLayer)}


def remove_layers(model: nn.Module) -> None:
    """Take all bottleneck layers off ``model``, which then is the base again, bit by bit."""
    for name, layer in adapter_layers(model).items():
        if layer.hook is not None:
            layer.hook.remove()
        del model.get_submodule(name.rpartition(".")[0]).bottleneck


def _branch_ends(model: PreTrainedModel, placement: str) -> list[nn.Module]:
    """The modules whose outputs are added to the residual stream, in the order in which they run."""
    from tunesmith.models.structure import attention_of, decoder_blocks, feed_forward_of

    hosts = []
    for _, block in decoder_blocks(model):
        norms = next((pair for pair in _BRANCH_NORMS if all(hasattr(block, name) for name in pair)), None)
        attention, feed_forward = (getattr(block, name) for name in norms) if norms else (attention_of(block)[1], feed_forward_of(block)[1])
        hosts += [attention, feed_forward] if placement == "houlsby" else [feed_forward]
    return hosts


def _adapt_output(host: nn.Module, _: tuple[Any, ...], output: Any) -> Any:
    """Attention returns a tuple (hidden states, weights), feed-forward and norm the hidden states alone."""
    layer = cast(BottleneckLayer, host.bottleneck)
    return (layer(output[0]), *output[1:]) if isinstance(output, tuple) else layer(output)
