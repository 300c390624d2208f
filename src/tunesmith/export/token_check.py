"""Whether an export reads prompts as training did, and stops where training stopped: template, token ids and stop tokens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.data.templates import PromptValue, Template
from tunesmith.errors import DataError
from tunesmith.export.check_prompts import PROMPTS
from tunesmith.export.stop_files import chat_template_in, gguf_in, stop_ids_in_files
from tunesmith.export.written_template import written_chat_template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from tunesmith.data.turns import Message
    from tunesmith.runtime.protocol import Runtime

_SHOWN = 40


@dataclass(frozen=True)
class TokenDifferences:
    """What differs from the tuned model.

    Attributes:
        num_prompts: prompts with other token ids.
        sentences: what is wrong, one each.
    """

    num_prompts: int
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class TokenCheck:
    """What the tuned model reads and where it stops.

    Attributes:
        template: the template of training; its columns alone for a head.
        head: whether the model ends in a head, which has no template and never stops.
        texts: the check prompts, rendered.
        ids: their token ids.
        stops: names of the tokens at which an answer ends, by their ids.
        tokenizer: of the tuned model.
    """

    template: Template
    head: bool
    texts: tuple[str, ...]
    ids: tuple[tuple[int, ...], ...]
    stops: dict[int, str]
    tokenizer: PreTrainedTokenizerBase

    @classmethod
    def of(cls, reference: Runtime) -> TokenCheck:
        """Return what the tuned model does with the check prompts."""
        head = reference.task.head
        texts = tuple(rendered(reference.template, reference.tokenizer, head=head))
        ids = tuple(tuple(reference.token_ids(text)) for text in texts)
        return cls(
            reference.template, head, texts, ids, {} if head else stops_of(reference.template, reference.tokenizer), reference.tokenizer
        )

    def compare(self, runtime: Runtime, files: Path | None = None) -> TokenDifferences:
        """Compare a stage.

        Args:
            runtime: of the stage; its own tokenizer is asked.
            files: where the stage lies: what other programs read there (``genai_config.json``, the metadata of a GGUF file, the chat
                template of the tokenizer) is compared too.
        """
        found = [tuple(runtime.token_ids(text)) for text in self.texts]
        differing = [place for place, (ours, theirs) in enumerate(zip(found, self.ids, strict=True)) if ours != theirs]
        sentences = [*self._tokens(found, differing), *self._template(runtime)]
        if not self.head:
            sentences += self._stops(stops_of(runtime.template, runtime.tokenizer), "its template and tokenizer stop at")
        if files is not None:
            sentences += self.compare_files(files)
        return TokenDifferences(len(differing), tuple(sentences))

    def compare_files(self, files: Path) -> list[str]:
        """Compare what other programs read beside the model: where to stop, and the chat template; returns what is wrong."""
        if self.head:
            return []
        sentences = [*self._chat_template(files), *self._template_in_gguf(files)]
        if (written := stop_ids_in_files(files)) is not None:
            names = {number: str(self.tokenizer.convert_ids_to_tokens(number)) for number in written.ids}
            sentences += self._stops(names, f"{written.where} stops at")
        return sentences

    def _tokens(self, found: Sequence[tuple[int, ...]], differing: Sequence[int]) -> Iterator[str]:
        if differing:
            first = differing[0]
            yield (
                f"{len(differing)} of {len(self.texts)} check prompts become other token ids than in training; the first is "
                f"{_short(self.texts[first])}: {_around(self.ids[first], found[first])}"
            )

    def _template(self, runtime: Runtime) -> Iterator[str]:
        if self.head or runtime.template == self.template:
            return
        texts = list(rendered(runtime.template, runtime.tokenizer, head=False))
        place = next((number for number, pair in enumerate(zip(texts, self.texts, strict=True)) if pair[0] != pair[1]), None)
        if place is not None:
            yield f"its template is not that of training: it writes {_short(texts[place])} where training wrote {_short(self.texts[place])}"
        elif runtime.template.stop_tokens == self.template.stop_tokens:
            yield f"its template is not that of training: {_changed_fields(self.template, runtime.template)}"

    def _stops(self, found: dict[int, str], where: str) -> Iterator[str]:
        missing = [name for number, name in self.stops.items() if number not in found]
        more = [name for number, name in found.items() if number not in self.stops]
        if missing:
            right = _listed(self.stops.values())
            yield f"{where} {_listed(found.values())}, but training stopped at {right}: {_listed(missing)} is missing"
        elif more:
            yield f"{where} {_listed(more)} too, where training went on"

    def _chat_template(self, files: Path) -> Iterator[str]:
        """The chat template beside the model is what other programs render by."""
        folder = files if files.is_dir() else files.parent
        if self.template.kind != "chat" or not (folder / "tokenizer_config.json").is_file():
            return
        from transformers import AutoTokenizer

        stored = AutoTokenizer.from_pretrained(folder)
        if not stored.chat_template:
            return
        written = self._conversations(str(stored.chat_template), stored)
        yield from _differing(f"the chat template in {folder.name}", written, self._conversations(self.template.chat_template))

    def _template_in_gguf(self, files: Path) -> Iterator[str]:
        """The chat template in a GGUF file's metadata is what llama.cpp, and all that is built on it, render by."""
        right, file = written_chat_template(self.template, self.tokenizer), gguf_in(files)
        if right is None or file is None or (found := chat_template_in(file)) == right:
            return
        where = f"the chat template in the metadata of {file.name}"
        if found is None:
            yield f"{where} is missing"
            return
        try:
            written = list(self._conversations(found))
        except DataError as error:
            yield f"{where} is not that of training: {error.message}"
            return
        yield from _differing(where, written, self._conversations(right))

    def _conversations(self, chat_template: str | None, tokenizer: PreTrainedTokenizerBase | None = None) -> Iterator[str]:
        """The check prompts by a chat template."""
        plain = Template(kind="chat", chat_template=chat_template, stop_tokens=self.template.stop_tokens)
        return rendered(plain, tokenizer or self.tokenizer, head=False)


def rendered(template: Template, tokenizer: PreTrainedTokenizerBase, *, head: bool) -> Iterator[str]:
    """Yield the check prompts as a template writes them; a conversation that it refuses is asked with its last turn."""
    for conversation in PROMPTS:
        said = str(conversation[-1]["content"])
        if head:
            yield said
            continue
        try:
            yield template.prompt(_value(template, conversation), tokenizer)
        except DataError:
            yield template.prompt(_value(template, conversation[-1:]), tokenizer)


def _value(template: Template, conversation: Sequence[Message]) -> PromptValue:
    """A conversation as the template takes prompts: as it is, or its last turn in every column."""
    if template.kind == "chat":
        return list(conversation)
    said = str(conversation[-1]["content"])
    return dict.fromkeys(template.prompt_columns, said) if template.prompt_columns else said


def _differing(where: str, written: Iterable[str], right: Iterable[str]) -> Iterator[str]:
    """Say how the first prompt differs that two templates write differently, where there is one."""
    for theirs, ours in zip(written, right, strict=True):
        if theirs != ours:
            yield f"{where} is not that of training: it writes {_short(theirs)} where training wrote {_short(ours)}"
            return


def stops_of(template: Template, tokenizer: PreTrainedTokenizerBase) -> dict[int, str]:
    """Return the tokens at which answers end, by id."""
    return {number: str(tokenizer.convert_ids_to_tokens(number)) for number in template.stop_token_ids(tokenizer)}


def _changed_fields(first: Template, second: Template) -> str:
    ours, theirs = first.to_dict(), second.to_dict()
    return ", ".join(f"{name} is {theirs[name]!r}, was {ours[name]!r}" for name in ours if ours[name] != theirs[name])


def _around(right: Sequence[int], found: Sequence[int]) -> str:
    place = next((number for number, (a, b) in enumerate(zip(right, found, strict=False)) if a != b), min(len(right), len(found)))
    return f"from token {place + 1} on {list(found[place : place + 4])} instead of {list(right[place : place + 4])}"


def _short(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else f"…{text[-_SHOWN:]}")


def _listed(names: object) -> str:
    found = list(names)  # type: ignore[call-overload]
    return " and ".join(str(name) for name in found) if found else "nothing"
