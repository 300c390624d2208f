"""The template of a training as other programs read it: Jinja for llama.cpp."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from tunesmith.data.templates import Template
from tunesmith.data.text_templates import take_apart

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def written_chat_template(template: Template | None, tokenizer: PreTrainedTokenizerBase) -> str | None:
    """Return the Jinja template of conversations that goes into a GGUF file; None for a model that has none.

    A text template with one column is written as a conversation whose last turn fills it: that is what training saw. With several columns
    no conversation can say which is which, so the last turn is taken as the whole prompt.
    """
    if template is None:
        return _own(tokenizer)
    if template.kind == "chat":
        return template.chat_template or _own(tokenizer)
    before, behind = text_around_prompt(template)
    return f"{_quoted(before)}{{{{ messages[-1]['content'] }}}}{_quoted(behind)}"


def text_around_prompt(template: Template) -> tuple[str, str]:
    """Return what a text template of one column has before and behind that column; two empty texts when it has not just one."""
    parts = take_apart(template.text or "")
    if len(parts.prompt_columns) != 1 or sum(piece.is_column for piece in parts.before) != 1:
        return "", ""
    at = next(index for index, piece in enumerate(parts.before) if piece.is_column)
    before = "".join(piece.text for piece in parts.before[:at])
    behind = "".join(piece.text for piece in parts.before[at + 1 :])
    return before, behind.rstrip(" ")  # blanks at the end of a prompt belong to the answer


def _own(tokenizer: PreTrainedTokenizerBase) -> str | None:
    own = getattr(tokenizer, "chat_template", None)
    if isinstance(own, Mapping):
        own = own.get("default") or next(iter(own.values()), None)
    return str(own) if own else None


def _quoted(text: str) -> str:
    """A text as a Jinja expression that gives it, whatever signs are in it."""
    return "{{ " + json.dumps(text, ensure_ascii=False) + " }}" if text else ""
