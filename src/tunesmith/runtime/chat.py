"""A conversation with a model: history, commands, and what to do when it outgrows the context. No terminal in here."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from tunesmith.data.formats import Message
from tunesmith.errors import UsageError
from tunesmith.runtime.protocol import Runtime

log = logging.getLogger(__name__)

COMMANDS = {"/reset": "forget the conversation", "/quit": "leave", "/help": "show this list"}


class ChatSession:
    """One conversation.

    Args:
        runtime: what answers.
        system_prompt: how the model should behave; None leaves it to the chat template.
        max_new_tokens, temperature, top_p, seed: as in `Runtime.generate`.

    Attributes:
        messages: the conversation so far, the system prompt included.
        finished: whether the user has said ``/quit``.

    Raises:
        UsageError: for a system prompt where the template has no place for one.
    """

    def __init__(
        self,
        runtime: Runtime,
        *,
        system_prompt: str | None = None,
        max_new_tokens: int = 256,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int | None = None,
    ) -> None:
        self.remembers = runtime.template.kind == "chat"
        if system_prompt is not None and not self.remembers:
            raise UsageError("this model was trained on a text template, which has no place for a system prompt", fix="Leave it out")
        self._runtime = runtime
        self._system: list[Message] = [{"role": "system", "content": system_prompt}] if system_prompt is not None else []
        self._max_new_tokens, self._temperature, self._top_p, self._seed = max_new_tokens, temperature, top_p, seed
        self.messages: list[Message] = list(self._system)
        self.finished = False

    def greeting(self) -> str:
        """Return what the user should know before the first line."""
        known = ", ".join(COMMANDS)
        if self.remembers:
            return f"Commands: {known}."
        return f"Commands: {known}. This model answers single prompts: each line is one of its own, and nothing is remembered."

    def respond(self, line: str) -> Iterator[str]:
        """Yield the answer to what the user typed, piece by piece: the model's, or a command's.

        An answer that is broken off (the iterator is closed, or Ctrl-C) is remembered as far as it went.

        Raises:
            DataError: for a prompt that the template refuses or that is longer than the context; the conversation is then as before.
        """
        text = line.strip()
        if text.startswith("/"):
            yield self._command(text)
        elif text:
            yield from self._converse(text) if self.remembers else self._stream(text)

    def _command(self, text: str) -> str:
        name = text.split()[0].lower()
        if name == "/reset":
            self.messages = list(self._system)
            return "The conversation is forgotten."
        if name == "/quit":
            self.finished = True
            return ""
        listed = "\n".join(f"{command:8}{meaning}" for command, meaning in COMMANDS.items())
        return listed if name == "/help" else f"There is no command {name}.\n{listed}"

    def _converse(self, text: str) -> Iterator[str]:
        messages = self._fitting([*self.messages, {"role": "user", "content": text}])
        pieces: list[str] = []
        try:
            # Alone, a text is put into words by the template (a summary is asked for, say), exactly as in training.
            for piece in self._stream(text if len(messages) == 1 else messages):
                pieces.append(piece)
                yield piece
        except (GeneratorExit, KeyboardInterrupt):
            if pieces:
                self._remember(messages, pieces)
            raise
        self._remember(messages, pieces)

    def _remember(self, messages: list[Message], pieces: list[str]) -> None:
        self.messages = [*messages, {"role": "assistant", "content": "".join(pieces)}]

    def _fitting(self, messages: list[Message]) -> list[Message]:
        """Forget the oldest exchanges until prompt and answer fit into the context; what the user said last always stays."""
        context = self._runtime.context_length
        if context is None:
            return messages
        room = context - min(self._max_new_tokens, context // 2)
        start, num_forgotten = len(self._system), 0
        while len(messages) > start + 1 and self._num_tokens(messages) > room:
            messages = [*messages[:start], *messages[start + 2 :]]
            num_forgotten += 1
        if num_forgotten:
            word = "exchange is" if num_forgotten == 1 else f"{num_forgotten} exchanges are"
            log.info("The conversation has outgrown the model's context of %d tokens: the oldest %s forgotten.", context, word)
        return messages

    def _num_tokens(self, messages: list[Message]) -> int:
        return len(self._runtime.template.encode_prompt(messages, self._runtime.tokenizer))

    def _stream(self, prompt: str | list[Message]) -> Iterator[str]:
        return self._runtime.stream(
            prompt, max_new_tokens=self._max_new_tokens, temperature=self._temperature, top_p=self._top_p, seed=self._seed
        )
