"""Turns of a conversation as OpenAI and ShareGPT write them, made into one kind of message."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tunesmith.data.placeholders import as_text
from tunesmith.errors import DataError

#: ``role``, ``content`` and perhaps ``tool_calls``, as OpenAI writes them.
Message = dict[str, Any]

_SHAREGPT_ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "model": "assistant",
    "assistant": "assistant",
    "function_call": "assistant",
    "system": "system",
    "tool": "tool",
    "observation": "tool",
    "function_response": "tool",
}


def is_messages(value: object) -> bool:
    """Return whether a cell holds a list of messages."""
    return isinstance(value, (list, tuple)) and bool(value) and all(isinstance(turn, Mapping) and "role" in turn for turn in value)


def openai_message(turn: Mapping[str, Any]) -> Message:
    """Return OpenAI's message without Arrow's nulls, the arguments of tool calls as values.

    Raises:
        DataError: when it doesn't say whose it is.
    """
    if "role" not in turn and "from" in turn:
        return sharegpt_message(turn)
    if "role" not in turn:
        raise DataError(f"a message has no 'role'; it has: {', '.join(turn)}", fix='Write {"role": "user", "content": "…"}')
    message: Message = without_none(turn)
    message.setdefault("content", "")
    for call in message.get("tool_calls", ()):
        function = call.get("function", {})
        if isinstance(function.get("arguments"), str):
            function["arguments"] = parsed_json(function["arguments"])
    return message


def sharegpt_message(turn: Mapping[str, Any]) -> Message:
    """Return ShareGPT's ``{"from": …, "value": …}`` as OpenAI's message.

    Raises:
        DataError: when it is from nobody known.
    """
    if "role" in turn:
        return openai_message(turn)
    role = _SHAREGPT_ROLES.get(str(turn.get("from")).lower())
    if role is None:
        known = ", ".join(_SHAREGPT_ROLES)
        raise DataError(f"a turn is from {turn.get('from')!r}; known: {known}", fix='Write {"from": "human", "value": "…"}')
    return {"role": role, "content": as_text(turn.get("value"))}


def parsed_json(value: Any) -> Any:
    """Return JSON written as a string (a way round Arrow's types) as what it means; anything else as it is."""
    if isinstance(value, str):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def without_none(value: Any) -> Any:
    """Drop the keys that Arrow filled with nulls because another row has them."""
    if isinstance(value, Mapping):
        return {key: without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        return [without_none(item) for item in value]
    return value
