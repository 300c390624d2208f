"""How a byte-level tokenizer splits text before it merges: recognized by its rules, named as llama.cpp names them (``tokenizer.ggml.pre``).

llama.cpp has each rule compiled in (``src/llama-vocab.cpp``), so only these can be had. A wrong name gives other token ids without any
error, therefore a rule that isn't known here is refused.
"""

from __future__ import annotations

import logging
from typing import Any

from tunesmith.errors import ModelError

log = logging.getLogger(__name__)

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_ENDINGS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_BEFORE = r"[^\r\n\p{L}\p{N}]?"
_REST_SLASH = _REST.replace(r"[\r\n]*|\s*", r"[\r\n/]*|\s*", 1)
_QWEN2 = rf"{_ENDINGS}|{_BEFORE}\p{{L}}+|\p{{N}}|{_REST}"
_LLAMA3 = rf"{_ENDINGS}|{_BEFORE}\p{{L}}+|\p{{N}}{{1,3}}|{_REST}"
_QWEN35 = rf"{_ENDINGS}|{_BEFORE}[\p{{L}}\p{{M}}]+|\p{{N}}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_GPT4O = rf"{_BEFORE}{_UPPER}*{_LOWER}+{_ENDINGS}?|{_BEFORE}{_UPPER}+{_LOWER}*{_ENDINGS}?|\p{{N}}{{1,3}}|{_REST_SLASH}"
_TEKKEN = rf"{_BEFORE}{_UPPER}*{_LOWER}+|{_BEFORE}{_UPPER}+{_LOWER}*|\p{{N}}|{_REST_SLASH}"

#: (rules in the order of use, whether whole words that are tokens skip the merges) -> name.
SPLITTINGS: dict[tuple[tuple[str, ...], bool], str] = {
    ((_GPT2,), False): "gpt-2",
    ((r"\p{N}", _GPT2), False): "smollm",
    ((_QWEN2,), False): "qwen2",
    ((_QWEN35,), False): "qwen35",
    ((_LLAMA3,), True): "llama-bpe",
    ((_LLAMA3,), False): "dbrx",
    ((_GPT4O,), False): "gpt-4o",
    ((_TEKKEN,), True): "tekken",
}


def splitting_name(content: dict[str, Any]) -> str:
    """Return llama.cpp's name for how a byte-level BPE tokenizer splits text.

    Args:
        content: the tokenizer's JSON.

    Raises:
        ModelError: when llama.cpp has none.
    """
    rules = _rules(content.get("pre_tokenizer"))
    name = SPLITTINGS.get((rules, bool(content["model"].get("ignore_merges")))) if rules else None
    odd = _odd_normalizer(content.get("normalizer"))
    if name is None or odd:
        what = f"normalizes text by {odd}" if name else "splits text in a way that llama.cpp has no name for"
        raise ModelError(f"this model's tokenizer {what}; it has: {', '.join(SPLITTINGS.values())}", fix="Export it to ONNX: --format onnx")
    if content.get("normalizer"):
        log.warning("llama.cpp doesn't compose letters and accents (Unicode NFC), as this tokenizer does: give it composed text.")
    return name


def _rules(part: dict[str, Any] | None) -> tuple[str, ...] | None:
    """The regular expressions of a pre-tokenizer, first to last; None when it is not made of such."""
    steps = part["pretokenizers"] if part and part["type"] == "Sequence" else [part] if part else []
    found, byte_level = [], False
    for step in steps:
        rule = _rule(step)
        if rule is None:
            return None
        byte_level = byte_level or step["type"] == "ByteLevel"
        found += [rule] if rule else []
    return tuple(found) if byte_level else None


def _rule(step: dict[str, Any]) -> str | None:
    """The regular expression of one step; empty for none, None for a step that llama.cpp can't do."""
    if step["type"] == "Digits":
        return r"\p{N}" if step["individual_digits"] else r"\p{N}+"
    if step["type"] == "Split" and step["behavior"] == "Isolated" and not step["invert"]:
        rule: str | None = step["pattern"].get("Regex")
        return rule
    if step["type"] == "ByteLevel" and not step["add_prefix_space"]:
        return _GPT2 if step["use_regex"] else ""
    return None


def _odd_normalizer(part: dict[str, Any] | None) -> str:
    """The normalizer's name, unless it is one that changes nothing in usual text."""
    if part is None or part["type"] == "NFC" or (part["type"] == "Sequence" and not part["normalizers"]):
        return ""
    return str(part["type"])
