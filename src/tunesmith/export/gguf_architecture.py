"""What llama.cpp has to know of a model beside its weights: the keys of a GGUF file, and what it computes that can't be said there.

llama.cpp has one graph for each architecture, with much of it fixed (activations, where norms are, which layers slide). A configuration
that asks for something else is refused here: the file would load and answer wrongly.

The keys: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md; how each is read: ``src/models/*.cpp`` of llama.cpp.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tunesmith.errors import ModelError

if TYPE_CHECKING:
    import numpy as np
    from gguf import GGUFWriter

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Family:
    """How llama.cpp computes a kind of model.

    Attributes:
        architecture: its name there, the first part of its keys.
        activation: of the feed-forward part.
        neighbours_rotate: rotary embeddings turn neighbouring rows of Q and K, where transformers turns rows half a head apart.
        norm_offset: what is added to the weights of norms: Gemma multiplies by ``1 + weight``, llama.cpp by ``weight``.
        always_tied: the output layer is the input embedding, whatever the file holds.
        slides: layers with a sliding window are computed as such; elsewhere every token sees all before it.
    """

    architecture: str
    activation: str = "silu"
    neighbours_rotate: bool = False
    norm_offset: float = 0.0
    always_tied: bool = False
    slides: bool = False


_GEMMA = "gelu_pytorch_tanh"
#: model_type of transformers -> how llama.cpp computes it.
FAMILIES: dict[str, Family] = {
    "llama": Family("llama", neighbours_rotate=True),
    "mistral": Family("llama", neighbours_rotate=True),
    "smollm3": Family("smollm3", neighbours_rotate=True),
    "qwen2": Family("qwen2"),
    "qwen3": Family("qwen3"),
    "phi3": Family("phi3"),
    "gemma": Family("gemma", _GEMMA, norm_offset=1.0, always_tied=True),
    "gemma2": Family("gemma2", _GEMMA, norm_offset=1.0, always_tied=True, slides=True),
    "gemma3_text": Family("gemma3", _GEMMA, norm_offset=1.0, slides=True),
}
#: Layers by which llama.cpp knows the 27B models of Gemma, whose attention is scaled by another number.
_GEMMA_27B_LAYERS = {"gemma2": 46, "gemma3_text": 62}
_SMOLLM3_ROTATIONS = 4


def family_of(config: Any) -> Family:
    """Return how llama.cpp computes the model of this transformers configuration.

    Raises:
        ModelError: when it has no graph for it, or one that computes something else.
    """
    kind = str(config.model_type)
    if kind not in FAMILIES:
        raise ModelError(
            f"models of type '{kind}' can't be written as GGUF here; it can be done for {', '.join(FAMILIES)}",
            fix="Export it to ONNX: --format onnx",
        )
    family = FAMILIES[kind]
    wrong = [*_wrong_activation(config, family), *_wrong_attention(config), *_wrong_rotation(config, family)]
    if wrong:
        raise ModelError(f"llama.cpp computes '{kind}' models otherwise than this one: {'; '.join(wrong)}", fix="Export it to ONNX instead")
    return family


def add_architecture_keys(writer: GGUFWriter, config: Any, family: Family) -> None:
    """Write sizes, norms, attention and rotary embedding of a model into a GGUF file's head."""
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(context_length(config, family))
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head_dim(config))
    writer.add_value_length(head_dim(config))
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    if family.slides:
        writer.add_sliding_window(config.sliding_window)
        writer.add_sliding_window_pattern([kind == "sliding_attention" for kind in config.layer_types])
    if family.architecture == "phi3":
        writer.add_sliding_window(0)  # llama.cpp takes a missing one for an old file of Phi-3 and refuses
    if cap := getattr(config, "attn_logit_softcapping", None):
        writer.add_attn_logit_softcapping(cap)
    if cap := getattr(config, "final_logit_softcapping", None):
        writer.add_final_logit_softcapping(cap)
    _add_rotary_keys(writer, config)


def context_length(config: Any, family: Family) -> int:
    """Return the tokens up to which llama.cpp computes what transformers does: the window, where only transformers lets it slide."""
    longest = int(config.max_position_embeddings)
    window = getattr(config, "sliding_window", None)
    if family.slides or not window or not _slides(config) or window >= longest:
        return longest
    log.warning("llama.cpp has no sliding window for this model: its context is set to the window, %d of %d tokens.", window, longest)
    return int(window)


def head_dim(config: Any) -> int:
    """Return the numbers in one attention head."""
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def rotary_dim(config: Any) -> int:
    """Return how many numbers of each head are rotated."""
    return int(head_dim(config) * float(_rotary(config).get("partial_rotary_factor") or 1.0))


def rotary_factors(config: Any) -> dict[str, np.ndarray]:
    """Return the weights by which llama.cpp divides rotary frequencies, by name; none for models without such.

    Llama 3.1 stretches long waves only, Phi-3 has one list for short and one for long texts.
    """
    import numpy as np

    values = _rotary(config)
    if values.get("rope_type") == "longrope":
        return {f"rope_factors_{name}.weight": np.asarray(values[f"{name}_factor"], dtype=np.float32) for name in ("long", "short")}
    if values.get("rope_type") == "llama3":
        return {"rope_freqs.weight": _llama3_factors(values, rotary_dim(config))}
    return {}


def _llama3_factors(values: dict[str, Any], dim: int) -> np.ndarray:
    """``frequency / scaled frequency`` of each pair, ``(dim / 2,)``.

    Waves shorter than ``original / high_freq_factor`` stay, those longer than ``original / low_freq_factor`` are stretched by ``factor``,
    between the two frequencies are blended: ``_compute_llama3_parameters`` of transformers.
    """
    import numpy as np

    low, high = float(values["low_freq_factor"]), float(values["high_freq_factor"])
    original = float(values["original_max_position_embeddings"])
    frequency = float(values["rope_theta"]) ** -(np.arange(0, dim, 2, dtype=np.float64) / dim)
    blend = np.clip((original * frequency / (2 * math.pi) - low) / (high - low), 0.0, 1.0)
    return (1.0 / ((1 - blend) / float(values["factor"]) + blend)).astype(np.float32)


def _add_rotary_keys(writer: GGUFWriter, config: Any) -> None:
    from gguf import RopeScalingType

    values = _rotary(config)
    writer.add_rope_dimension_count(rotary_dim(config))
    writer.add_rope_freq_base(float(values["rope_theta"]))
    sliding = config.rope_parameters.get("sliding_attention")
    if sliding:
        writer.add_rope_freq_base_swa(float(sliding["rope_theta"]))
    kind = values.get("rope_type", "default")
    if kind == "linear":
        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(float(values["factor"]))
    elif kind == "yarn":
        _add_yarn_keys(writer, values)
    elif kind == "longrope":
        _add_longrope_keys(writer, config, values)


def _add_yarn_keys(writer: GGUFWriter, values: dict[str, Any]) -> None:
    from gguf import RopeScalingType

    factor = float(values["factor"])
    writer.add_rope_scaling_type(RopeScalingType.YARN)
    writer.add_rope_scaling_factor(factor)
    writer.add_rope_scaling_orig_ctx_len(int(values["original_max_position_embeddings"]))
    writer.add_rope_scaling_yarn_beta_fast(float(values.get("beta_fast") or 32))
    writer.add_rope_scaling_yarn_beta_slow(float(values.get("beta_slow") or 1))
    if values.get("attention_factor"):  # llama.cpp multiplies by what follows from the factor; what is asked for is divided by that
        writer.add_rope_scaling_attn_factors(float(values["attention_factor"]) / (1 + 0.1 * math.log(factor)))


def _add_longrope_keys(writer: GGUFWriter, config: Any, values: dict[str, Any]) -> None:
    original = int(values.get("original_max_position_embeddings") or config.original_max_position_embeddings)
    stretch = float(values.get("factor") or config.max_position_embeddings / original)
    attention = values.get("attention_factor") or (math.sqrt(1 + math.log(stretch) / math.log(original)) if stretch > 1 else 1.0)
    writer.add_rope_scaling_orig_ctx_len(original)
    writer.add_rope_scaling_attn_factors(float(attention))


def _rotary(config: Any) -> dict[str, Any]:
    """The parameters of rotary embeddings, of the layers that see everything where there are two kinds."""
    values = config.rope_parameters
    return dict(values.get("full_attention") or values)


def _slides(config: Any) -> bool:
    kinds = getattr(config, "layer_types", None)
    return "sliding_attention" in kinds if kinds else True


def _wrong_activation(config: Any, family: Family) -> list[str]:
    found = getattr(config, "hidden_activation", None) or getattr(config, "hidden_act", None)
    return [] if found == family.activation else [f"its activation is {found}, there it is {family.activation}"]


def _wrong_attention(config: Any) -> list[str]:
    wrong = []
    scale, heads = getattr(config, "query_pre_attn_scalar", None), config.num_attention_heads
    large = config.num_hidden_layers == _GEMMA_27B_LAYERS.get(config.model_type)
    fixed = config.hidden_size / heads if large else head_dim(config)
    if scale is not None and config.model_type != "gemma" and scale != fixed:
        wrong.append(f"its query_pre_attn_scalar is {scale}, there it is {fixed:g}")
    if config.model_type == "phi3" and head_dim(config) * heads != config.hidden_size:
        wrong.append(f"its heads have {head_dim(config)} numbers, there hidden_size / heads = {config.hidden_size // heads}")
    if getattr(config, "use_bidirectional_attention", False):
        wrong.append("its tokens see those that follow")
    return wrong


def _wrong_rotation(config: Any, family: Family) -> list[str]:
    kind, known = _rotary(config).get("rope_type", "default"), ["default", "linear", "yarn"]
    known += {"llama": ["llama3"], "phi3": ["longrope"]}.get(family.architecture, [])
    wrong = [] if kind in known else [f"its rotary embedding is of type {kind}, there {', '.join(known)} can be had"]
    if config.model_type == "smollm3":
        fixed = [int((layer + 1) % _SMOLLM3_ROTATIONS != 0) for layer in range(config.num_hidden_layers)]
        if list(config.no_rope_layers) != fixed:
            wrong.append("other layers than every fourth go without rotary embedding")
    sliding = config.rope_parameters.get("sliding_attention") or {}
    if sliding.get("rope_type", "default") != "default":
        wrong.append(f"its sliding layers have a rotary embedding of type {sliding['rope_type']}")
    return wrong
