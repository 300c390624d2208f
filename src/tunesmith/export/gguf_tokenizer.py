"""A tokenizer as llama.cpp wants it: tokens, scores or merges, types, special ids, and the name of how it splits text.

llama.cpp has two tokenizers that matter here: byte-level BPE (``gpt2``: merges, and a splitting rule known by name) and SentencePiece's BPE
(``llama``: a score a token, which it merges by). Fast tokenizers of transformers are all read from their JSON.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tunesmith.data.tokenize import bos_token_id
from tunesmith.errors import ModelError
from tunesmith.export.gguf_sentencepiece import sentencepiece_scores, space_prefix
from tunesmith.export.gguf_splitting import splitting_name

if TYPE_CHECKING:
    from gguf import GGUFWriter
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger(__name__)

#: ``tokenizer.ggml.token_type``: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
_SPACE = "▁"
#: Keys that stop llama.cpp; it knows more end tokens by their text, but these are the ones that can be said.
_STOP_KEYS = ("eos_token_id", "eot_token_id", "eom_token_id")
#: What llama.cpp, told by the model's name, does not strip blanks behind.
_PHI3_UNSTRIPPED = frozenset({"<unk>", "<s>", "<|endoftext|>"})


@dataclass(frozen=True)
class Vocabulary:
    """The tokenizer's part of a GGUF file.

    Attributes:
        model: ``gpt2`` (byte-level BPE) or ``llama`` (SentencePiece BPE).
        splitting: ``tokenizer.ggml.pre``.
        tokens: by id, one a row of the embedding.
        types: one a token.
        scores: one a token, for ``llama``.
        merges: ``left right``, for ``gpt2``.
        special_ids: GGUF's key without ``tokenizer.ggml.`` -> id.
        adds_bos: whether every text begins with BOS.
        space_prefix: whether a blank is put before every text; None where the model has none.
        strips_behind_special: whether blanks behind special tokens are dropped, as Phi-3 does.
    """

    model: str
    splitting: str
    tokens: tuple[str, ...]
    types: tuple[int, ...]
    scores: tuple[float, ...] | None
    merges: tuple[str, ...] | None
    special_ids: dict[str, int]
    adds_bos: bool
    space_prefix: bool | None
    strips_behind_special: bool = False


def vocabulary_of(tokenizer: PreTrainedTokenizerBase, *, num_rows: int, stop_ids: list[int]) -> Vocabulary:
    """Return a tokenizer as llama.cpp reads it.

    Args:
        tokenizer: a fast tokenizer.
        num_rows: of the model's embedding; ids beyond the tokenizer's become unused tokens.
        stop_ids: what ends an answer, the most usual first.

    Raises:
        ModelError: when llama.cpp has no such tokenizer, or the model has fewer rows than it has tokens.
    """
    content = _json_of(tokenizer)
    model = content["model"]
    tokens, types = _tokens_and_types(tokenizer, content, num_rows)
    adds_bos = bos_token_id(tokenizer) is not None
    special = _special_ids(tokenizer, stop_ids)
    added = [token for token in content.get("added_tokens", []) if token["special"]]
    strips = _strips_like_phi3(added, tokens)
    if not strips and (odd := [token["content"] for token in added if token["lstrip"] or token["rstrip"]]):
        log.warning("llama.cpp doesn't strip blanks beside special tokens, as this tokenizer does beside %s.", ", ".join(odd[:3]))
    if model["type"] == "BPE" and not _is_sentencepiece(content):
        merges = tuple(pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"])
        return Vocabulary("gpt2", splitting_name(content), tokens, types, None, merges, special, adds_bos, None, strips)
    if model["type"] == "BPE":
        scores = sentencepiece_scores(model, tokens, types)
        return Vocabulary("llama", "default", tokens, types, scores, None, special, adds_bos, space_prefix(content), strips)
    message = f"this model's tokenizer is of type {model['type']}, and only BPE can be written as GGUF here"
    raise ModelError(message, fix="Export it to ONNX: --format onnx")


def add_vocabulary(writer: GGUFWriter, vocabulary: Vocabulary) -> None:
    """Write a tokenizer into a GGUF file's head."""
    writer.add_tokenizer_model(vocabulary.model)
    writer.add_tokenizer_pre(vocabulary.splitting)
    writer.add_token_list(list(vocabulary.tokens))
    writer.add_token_types(list(vocabulary.types))
    if vocabulary.scores is not None:
        writer.add_token_scores(list(vocabulary.scores))
    if vocabulary.merges is not None:
        writer.add_token_merges(list(vocabulary.merges))
    for key, number in vocabulary.special_ids.items():
        writer.add_uint32(f"tokenizer.ggml.{key}", number)
    writer.add_add_bos_token(vocabulary.adds_bos)
    writer.add_add_eos_token(False)
    if vocabulary.space_prefix is not None:
        writer.add_add_space_prefix(vocabulary.space_prefix)


def _json_of(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ModelError(
            f"{type(tokenizer).__name__} is written in Python, and only fast tokenizers (tokenizer.json) can be written as GGUF",
            fix="Convert it to tokenizer.json first",
        )
    content: dict[str, Any] = json.loads(backend.to_str())
    return content


def _is_sentencepiece(content: dict[str, Any]) -> bool:
    """Whether tokens are pieces of text with ``▁`` for a blank, where byte-level BPE has a letter for each byte."""
    parts = json.dumps([content.get("normalizer"), content.get("pre_tokenizer")], ensure_ascii=False)
    return _SPACE in parts


def _tokens_and_types(
    tokenizer: PreTrainedTokenizerBase, content: dict[str, Any], num_rows: int
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    by_id = {number: token for token, number in tokenizer.get_vocab().items()}
    if max(by_id) >= num_rows:
        raise ModelError(
            f"the tokenizer has ids up to {max(by_id)}, but the model's embedding has {num_rows} rows only",
            fix="Give the tokenizer that belongs to the model",
        )
    added = {token["id"]: token for token in content.get("added_tokens", [])}
    byte_fallback, unknown = bool(content["model"].get("byte_fallback")), content["model"].get("unk_token")
    tokens, types = [], []
    for number in range(num_rows):
        token = by_id.get(number)
        if token is None:
            tokens.append(f"[PAD{number}]")
            types.append(UNUSED)
            continue
        kind = _type_of(token, added.get(number), byte_fallback, unknown)
        tokens.append(token.replace(_SPACE, " ") if kind == USER_DEFINED else token)
        types.append(kind)
    return tuple(tokens), tuple(types)


def _type_of(token: str, added: dict[str, Any] | None, byte_fallback: bool, unknown: str | None) -> int:
    if token == unknown:
        return UNKNOWN
    if added is not None:
        return CONTROL if added["special"] else USER_DEFINED
    is_byte = byte_fallback and len(token) == 6 and token.startswith("<0x") and token.endswith(">")
    return BYTE if is_byte else NORMAL


def _special_ids(tokenizer: PreTrainedTokenizerBase, stop_ids: list[int]) -> dict[str, int]:
    """Ids by GGUF's keys. What ended answers in training is EOS there, whatever the tokenizer calls so."""
    found = dict(zip(_STOP_KEYS, stop_ids, strict=False))
    if len(stop_ids) > len(_STOP_KEYS):
        more = tokenizer.convert_ids_to_tokens(stop_ids[len(_STOP_KEYS) :])
        log.warning("A GGUF file has room for three tokens that end an answer; give the others to the program that runs it: %s", more)
    for key, number in (
        ("bos_token_id", tokenizer.bos_token_id),
        ("unknown_token_id", tokenizer.unk_token_id),
        ("padding_token_id", tokenizer.pad_token_id),
    ):
        if number is not None:
            found[key] = int(number)
    return found


def _strips_like_phi3(added: list[dict[str, Any]], tokens: tuple[str, ...]) -> bool:
    """Whether special tokens drop the blanks behind them just as llama.cpp does for models that are called Phi-3."""
    strips = {token["content"] for token in added if token["rstrip"]}
    rest = {token["content"] for token in added} - strips
    return bool(strips) and "</s>" in tokens and rest <= _PHI3_UNSTRIPPED and _PHI3_UNSTRIPPED.issubset(tokens)
