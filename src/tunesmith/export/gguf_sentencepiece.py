"""SentencePiece's BPE from the merges of a fast tokenizer: the score that llama.cpp merges by, token by token.

SentencePiece gives each piece a score and always joins the two neighbours whose joint piece scores highest. transformers wrote that down
as a list of pairs, best first. Going back, a piece scores minus the place of its first pair, which is exact when the list is sorted by the
piece that a pair makes and holds every pair that makes one.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from tunesmith.errors import ModelError

log = logging.getLogger(__name__)

_SPACE = "▁"
_NORMAL = 1
#: Of tokens that no merge makes; llama.cpp's own converter has it too.
_UNMERGED_SCORE = -1000000.0


def sentencepiece_scores(model: dict[str, Any], tokens: Sequence[str], types: Sequence[int]) -> tuple[float, ...]:
    """Return the score of every token.

    Args:
        model: the ``model`` of the tokenizer's JSON, of type BPE.
        tokens: by id.
        types: one a token, as GGUF has them.

    Raises:
        ModelError: when no scores give the tokenizer's own merges.
    """
    pairs = [tuple(pair.split(" ", 1)) if isinstance(pair, str) else tuple(pair) for pair in model["merges"]]
    places: dict[str, int] = {}
    last = ""
    for place, (left, right) in enumerate(pairs):
        piece = left + right
        if piece in places and piece != last:
            raise _not_sentencepiece(f"the pairs that make '{piece}' don't stand together")
        places.setdefault(piece, place)
        last = piece
    _check_every_pair(set(pairs), tokens, types)
    if not model.get("byte_fallback"):
        log.warning("This tokenizer has no bytes to fall back on: llama.cpp may read characters that it doesn't know otherwise.")
    return tuple(-float(places[token]) if token in places else _UNMERGED_SCORE for token in tokens)


def space_prefix(content: dict[str, Any]) -> bool:
    """Say whether a blank is put before a text.

    Args:
        content: the tokenizer's JSON.

    Raises:
        ModelError: for a normalizer or pre-tokenizer that SentencePiece doesn't have.
    """
    found = False
    for step in [*_steps(content.get("normalizer"), "normalizers"), *_steps(content.get("pre_tokenizer"), "pretokenizers")]:
        kind = step["type"]
        if kind == "Prepend" and step["prepend"] == _SPACE:
            found = True
        elif kind == "Metaspace" and not step.get("split", True):
            found = found or _metaspace_prefix(step)
        elif not _turns_blanks(step):
            raise _not_sentencepiece(f"it has a step {kind}")
    return found


def _metaspace_prefix(step: dict[str, Any]) -> bool:
    scheme = step.get("prepend_scheme", "always")
    if scheme == "first":
        log.warning("llama.cpp puts a blank behind every special token, this tokenizer only before a whole text: some ids may differ.")
    return bool(scheme != "never")


def _turns_blanks(step: dict[str, Any]) -> bool:
    """Whether a step writes blanks as ``▁``, or splits at blanks that are none by then (Gemma's)."""
    if step["type"] == "Replace":
        return bool(step["pattern"] == {"String": " "} and step["content"] == _SPACE)
    return bool(step["type"] == "Split" and step["pattern"] == {"String": " "})


def _steps(part: dict[str, Any] | None, name: str) -> list[dict[str, Any]]:
    if part is None:
        return []
    return list(part[name]) if part["type"] == "Sequence" else [part]


def _check_every_pair(pairs: set[tuple[str, ...]], tokens: Sequence[str], types: Sequence[int]) -> None:
    """Check that two tokens which together make a token are a pair: llama.cpp would join them, whether they are one or not."""
    normal = {token for token, kind in zip(tokens, types, strict=True) if kind == _NORMAL}
    for token in normal:
        for cut in range(1, len(token)):
            left, right = token[:cut], token[cut:]
            if left in normal and right in normal and (left, right) not in pairs:
                raise _not_sentencepiece(f"'{left}' and '{right}' stay apart although '{token}' is a token")


def _not_sentencepiece(why: str) -> ModelError:
    return ModelError(f"this model's tokenizer can't be written in SentencePiece's form: {why}", fix="Export it to ONNX: --format onnx")
