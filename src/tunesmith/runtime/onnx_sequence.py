"""Encoder-decoders in two graphs, called as models of transformers are: its own loop writes the answers.

Legend: B rows, T tokens read, N tokens written in this step, P tokens written before, V vocabulary, H heads.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache, EncoderDecoderCache, GenerationConfig, GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import Seq2SeqLMOutput
from transformers.utils import ModelOutput

from tunesmith.runtime.onnx_session import Graph, config_of

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

ENCODER_FILE, DECODER_FILE = "encoder_model.onnx", "decoder_model.onnx"


@dataclass
class EncodedText(ModelOutput):  # type: ignore[misc]
    """What was read.

    Attributes:
        last_hidden_state: ``(B, T, D)``.
        keys_values: by name what each block of the writing half looks at, ``(B, H, T, D/H)``.
    """

    last_hidden_state: Tensor | None = None
    keys_values: dict[str, Tensor] | None = None


class _Encoder(nn.Module):
    """The reading half."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph = graph

    def forward(self, input_ids: Tensor, attention_mask: Tensor, **_: Any) -> EncodedText:
        found = self.graph({"input_ids": input_ids, "attention_mask": attention_mask})
        hidden = found.pop("last_hidden_state")
        return EncodedText(hidden, {name.replace("present", "past_key_values", 1): tensor for name, tensor in found.items()})


class GraphSequenceModel(PreTrainedModel, GenerationMixin):  # type: ignore[misc]
    """Two graphs in the place of an encoder-decoder of transformers, so that ``generate`` is the same loop with the same settings.

    Args:
        config: of the model that was exported.
        encoder, decoder: the graphs, see :mod:`tunesmith.export.graph_modules`.
    """

    main_input_name = "input_ids"
    base_model_prefix = "model"

    def __init__(self, config: PreTrainedConfig, encoder: Graph, decoder: Graph) -> None:
        super().__init__(config)
        self._encoder, self._decoder = _Encoder(encoder), decoder
        self.place = nn.Parameter(torch.empty(0), requires_grad=False)  # says where inputs belong; the weights are in the graphs
        past = {name: shape for name, shape in decoder.inputs.items() if ".decoder." in name}
        self._past_shapes = {name: (int(shape[1]), int(shape[3])) for name, shape in past.items()}  # H, D/H

    @classmethod
    def open(cls, folder: Path, *, provider: str | None = None, threads: int | None = None) -> GraphSequenceModel:
        """Open the graphs in a folder.

        Raises:
            ModelError: when a file is missing or damaged.
        """
        encoder, decoder = (Graph(folder / name, provider=provider, threads=threads) for name in (ENCODER_FILE, DECODER_FILE))
        model: GraphSequenceModel = cls(config_of(folder), encoder, decoder)
        if (folder / "generation_config.json").is_file():
            model.generation_config = GenerationConfig.from_pretrained(folder)
        model.eval()
        return model

    @property
    def size_bytes(self) -> int:
        """Of both files."""
        return self._encoder.graph.size_bytes + self._decoder.size_bytes

    def get_encoder(self, modality: str | None = None) -> nn.Module:
        """Return the reading half."""
        return self._encoder

    def prepare_decoder_input_ids_from_labels(self, labels: Tensor) -> Tensor:
        """Return what the writing half is given so that it foresees ``labels``: a start, and all but the last of them."""
        start, pad = self.config.decoder_start_token_id, self.config.pad_token_id
        shifted = torch.cat([torch.full_like(labels[:, :1], start), labels[:, :-1]], dim=1)
        return shifted.masked_fill(shifted == -100, pad)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        encoder_outputs: EncodedText | None = None,
        decoder_input_ids: Tensor | None = None,
        past_key_values: EncoderDecoderCache | None = None,
        use_cache: bool | None = None,
        **_: Any,
    ) -> Seq2SeqLMOutput:
        """Return logits ``(B, N, V)``; what is to be kept goes into ``past_key_values``."""
        encoded = encoder_outputs or self._encoder(input_ids=input_ids, attention_mask=attention_mask)
        assert attention_mask is not None
        assert decoder_input_ids is not None
        cache = past_key_values.self_attention_cache if past_key_values is not None else DynamicCache()
        num_before = cache.get_seq_length()
        found = self._decoder(
            {
                "input_ids": decoder_input_ids,
                "encoder_attention_mask": attention_mask,
                **self._kept(cache, num_before, len(decoder_input_ids)),
                **(encoded.keys_values or {}),
            }
        )
        for block in range(len(self._past_shapes) // 2):
            keys, values = (found[f"present.{block}.decoder.{kind}"][:, :, num_before:] for kind in ("key", "value"))
            cache.update(keys, values, block)
        return Seq2SeqLMOutput(logits=found["logits"], past_key_values=past_key_values)

    def _kept(self, cache: DynamicCache, num_before: int, num_rows: int) -> dict[str, Tensor]:
        """Return keys and values of what was written before by name; at the beginning they are empty."""
        kept: dict[str, Tensor] = {}
        for name, (heads, width) in self._past_shapes.items():
            _, block, _, kind = name.split(".")
            empty = torch.empty(num_rows, heads, 0, width)
            layer = cache.layers[int(block)] if num_before else None
            kept[name] = empty if layer is None else layer.keys if kind == "key" else layer.values
        return kept
