"""The ``Modelfile`` beside a GGUF file: what Ollama has to know to ask the model as training did, and to stop where training stopped.

Ollama renders prompts by a template of Go (https://pkg.go.dev/text/template), not by Jinja. A chat template is therefore tried on a few
conversations: what it puts around each turn is read off, put together again, and compared with what it gives for others. One that does more
than that can't be written, which is said; https://docs.ollama.com/modelfile describes the file.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.artifact import write_file_atomically
from tunesmith.data.templates import Template
from tunesmith.data.tokenize import bos_token_id, special_tokens
from tunesmith.errors import DataError
from tunesmith.export.written_template import text_around_prompt, written_chat_template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger(__name__)

MODELFILE = "Modelfile"
_MARKS = {"system": "⟦system⟧", "user": "⟦user⟧", "assistant": "⟦assistant⟧"}
_WHOLE_PROMPT = "{{ .Prompt }}"


@dataclass(frozen=True)
class Turns:
    """What a chat template writes around turns.

    Attributes:
        unasked: what comes first when there is no system message.
        system, user, assistant: (before, behind) the text of such a turn.
        answer: what comes last, where the answer is to begin.
    """

    unasked: str
    system: tuple[str, str] | None
    user: tuple[str, str]
    assistant: tuple[str, str]
    answer: str

    def render(self, messages: Sequence[dict[str, str]]) -> str:
        """Return what :meth:`go_template` makes of a conversation."""
        around = {"user": self.user, "assistant": self.assistant, "system": self.system or ("", "")}
        has_system = any(message["role"] == "system" for message in messages)
        turns = (around[message["role"]][0] + message["content"] + around[message["role"]][1] for message in messages)
        return ("" if has_system else self.unasked) + "".join(turns) + self.answer

    def go_template(self) -> str:
        """Return the same as a template of Go, over Ollama's ``.System`` and ``.Messages``."""
        system = ""
        if self.system:
            asked = f"{go_text(self.system[0])}{{{{ .System }}}}{go_text(self.system[1])}"
            otherwise = f"{{{{ else }}}}{go_text(self.unasked)}" if self.unasked else ""
            system = f"{{{{ if .System }}}}{asked}{otherwise}{{{{ end }}}}"
        elif self.unasked:
            system = go_text(self.unasked)
        user, assistant = (f"{go_text(around[0])}{{{{ .Content }}}}{go_text(around[1])}" for around in (self.user, self.assistant))
        turn = f'{{{{ if eq .Role "user" }}}}{user}{{{{ else if eq .Role "assistant" }}}}{assistant}{{{{ end }}}}'
        return f"{system}{{{{ range .Messages }}}}{turn}{{{{ end }}}}{go_text(self.answer)}"


def write_modelfile(
    folder: Path, tokenizer: PreTrainedTokenizerBase, template: Template | None, *, gguf: str = "model.gguf", adapter: str | None = None
) -> None:
    """Write ``Modelfile`` into the folder of a GGUF file: ``ollama create NAME -f Modelfile`` takes it.

    Args:
        folder: that has the GGUF file.
        tokenizer: of the model.
        template: of the training; None for the tokenizer's own chat template.
        gguf: name of the file.
        adapter: name of a GGUF adapter to put on it.

    Raises:
        OutputError: when it can't be written.
    """
    lines = [f"FROM ./{gguf}", *([f"ADAPTER ./{adapter}"] if adapter else [])]
    written = go_template(template, tokenizer)
    if written is not None:
        lines.append(f"TEMPLATE {modelfile_text(written)}")
    for stop in stop_texts(template, tokenizer):
        if '"' in stop:
            log.warning("Modelfile can't hold the stop text %s: give it to Ollama with each request.", stop)
        else:
            lines.append(f"PARAMETER stop {modelfile_text(stop)}")
    lines.append("PARAMETER temperature 0")
    write_file_atomically(folder / MODELFILE, "\n".join(lines) + "\n")


def go_template(template: Template | None, tokenizer: PreTrainedTokenizerBase) -> str | None:
    """Return the template of Go that gives the prompts of training; None where there is none that does."""
    if template is not None and template.kind == "text":
        before, behind = text_around_prompt(template)
        return f"{go_text(before)}{_WHOLE_PROMPT}{go_text(behind)}"
    jinja = written_chat_template(template, tokenizer)
    if jinja is None:
        return _WHOLE_PROMPT
    turns = read_turns(jinja, tokenizer)
    if turns is None:
        log.warning(
            "The chat template can't be written as Ollama's: there, give whole prompts with `raw`, or write TEMPLATE into Modelfile."
        )
    elif turns.system is None:
        log.warning("The chat template has no turn of its own for system messages: in Ollama, write them into the first question.")
    return turns.go_template() if turns is not None else None


def read_turns(jinja: str, tokenizer: PreTrainedTokenizerBase) -> Turns | None:
    """Return what a chat template writes around turns; None when that is not all it does."""
    user, assistant, system = ({"role": role, "content": _MARKS[role]} for role in ("user", "assistant", "system"))
    try:
        first, between, last = _rendered(jinja, [user, assistant, user], tokenizer).split(_MARKS["user"])
        before_assistant, behind_assistant = between.split(_MARKS["assistant"])
        before_user, behind_user = _around_user(jinja, tokenizer, first, before_assistant, behind_assistant, last)
        turns = Turns(
            unasked=first[: len(first) - len(before_user)],
            system=_around_system(_rendered(jinja, [system, user], tokenizer), before_user),
            user=(before_user, behind_user),
            assistant=(before_assistant[len(behind_user) :], behind_assistant[: len(behind_assistant) - len(before_user)]),
            answer=last[len(behind_user) :],
        )
    except (DataError, ValueError):
        return None
    talks = [[user], [user, assistant, user], [user, assistant, user, assistant, user]]
    talks += [[system, *talk] for talk in talks] if turns.system else []
    return turns if all(turns.render(talk) == _rendered(jinja, talk, tokenizer) for talk in talks) else None


def stop_texts(template: Template | None, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Return the texts that end an answer, the tokenizer's EOS among them."""
    found = [*(template.stop_tokens if template else ()), *([str(tokenizer.eos_token)] if tokenizer.eos_token else [])]
    return list(dict.fromkeys(text for text in found if text))


def go_text(text: str) -> str:
    """Return text as it is written in a template of Go, inside a Modelfile: braces and three quotes can't stand there as they are."""
    return text.replace("{{", '{{ "{{" }}').replace('"""', '{{ "\\"\\"\\"" }}')


def modelfile_text(text: str) -> str:
    """Return text as a value in a Modelfile, which knows no escapes: in quotes, three of them where one can't do."""
    if '"' not in text and "\n" not in text:
        return f'"{text}"'
    return f'"""{text}{{{{ "" }}}}"""' if text.endswith('"') else f'"""{text}"""'


def _rendered(jinja: str, messages: list[dict[str, str]], tokenizer: PreTrainedTokenizerBase) -> str:
    """The prompt of a conversation, without the BOS that the tokenizer writes anyway."""
    text = Template(kind="chat", chat_template=jinja).prompt(messages, tokenizer)
    bos = str(tokenizer.bos_token or "")
    return text.removeprefix(bos) if bos and bos_token_id(tokenizer) is not None else text


def _around_system(text: str, before_user: str) -> tuple[str, str] | None:
    """What stands around a system message; None for a template that takes none."""
    before, mark, rest = text.partition(_MARKS["system"])
    if not mark:
        return None
    behind = rest.split(_MARKS["user"])[0]
    return (before, behind.removesuffix(before_user)) if behind.endswith(before_user) else None


def _around_user(jinja: str, tokenizer: PreTrainedTokenizerBase, first: str, asked: str, answered: str, last: str) -> tuple[str, str]:
    """What stands before and behind a user turn, from the texts before the first, behind it, before the last, and behind that.

    Where two such turns may follow each other, the text between them is both. It can be cut in several places that give the same prompts;
    the last one that a special token or a new line begins at is what the template's author meant.
    """
    user = {"role": "user", "content": _MARKS["user"]}
    try:
        _, both, _ = _rendered(jinja, [user, user], tokenizer).split(_MARKS["user"])
    except (DataError, ValueError):
        return _common_end(first, answered), _common_start(asked, last)
    earliest = len(both) - len(_common_end(both, _common_end(first, answered)))
    latest = len(_common_start(both, _common_start(asked, last)))
    special = tuple(special_tokens(tokenizer))
    cuts = [cut for cut in range(earliest, latest + 1) if both[cut:].startswith(special) or both[:cut].endswith("\n")]
    cut = cuts[-1] if cuts else earliest
    return both[cut:], both[:cut]


def _common_end(one: str, other: str) -> str:
    return _common_start(one[::-1], other[::-1])[::-1]


def _common_start(one: str, other: str) -> str:
    size = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return one[:size]
