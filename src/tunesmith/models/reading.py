"""How a base model reads a text, told before its weights are loaded: a task that ends in a head prepares its rows by that."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from tunesmith.models.quiet import quiet_libraries
from tunesmith.models.structure import causal_lm, is_causal

if TYPE_CHECKING:
    from tunesmith.models.sources import ModelSource

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reading:
    """How a model reads.

    Attributes:
        causal: tokens see only those before them, so that a word is known at its last sub-word alone.
        token_types: of a pair of texts it is told which tokens are of the second (BERT's segments).
    """

    causal: bool = True
    token_types: bool = False


def reading_of(source: ModelSource, *, trust_remote_code: bool = False) -> Reading:
    """Return how a model reads, by its configuration; no weights are read, and none are made.

    A model of unknown make is taken for a decoder, as :func:`is_causal` takes it.
    """
    if source.kind == "gguf":
        return Reading()
    from transformers import AutoConfig, AutoModel

    try:
        with quiet_libraries(), torch.device("meta"):
            config = AutoConfig.from_pretrained(source.folder, trust_remote_code=trust_remote_code)
            model = AutoModel.from_config(config, trust_remote_code=trust_remote_code)
    except Exception as error:  # whatever a model's own code raises; loading it says what is wrong
        log.debug("How %s reads can't be told before it is loaded: %s", source.name, error)
        return Reading()
    return Reading(causal=is_causal(model), token_types=takes_token_types(model))


def takes_token_types(model: nn.Module) -> bool:
    """Return whether a model tells the tokens of a second text from those of the first by their type."""
    config: Any = causal_lm(model).config
    return getattr(config, "type_vocab_size", 0) > 1
