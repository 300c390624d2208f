"""Known answers as a tree of tokens: what they begin with in common is scored once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tunesmith.data.templates import PromptValue, Template
from tunesmith.data.tokenize import IGNORE_INDEX, Segment, SpecialTokens, encode_examples, special_tokens
from tunesmith.runtime.decoding import common_prefix_length

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass
class Node:
    """A stretch of tokens that every label below has in common.

    Attributes:
        path: the tokens from the root up to this node.
        tokens: the node's own tokens, at least one except in the root.
        labels: the labels at or below the node.
        complete: the labels that end with this node; more than one only where two labels have the same tokens.
        children: the nodes that go on from here; they differ in their first tokens.
    """

    path: tuple[int, ...] = ()
    tokens: tuple[int, ...] = ()
    labels: tuple[int, ...] = ()
    complete: tuple[int, ...] = ()
    children: list[Node] = field(default_factory=list)

    @property
    def fed(self) -> tuple[int, ...]:
        """The tokens that a model must be given behind the prompt to score the node and what follows it.

        The last token of a label foresees nothing that is asked for.
        """
        whole = self.path + self.tokens
        return whole if self.children else whole[:-1]

    @property
    def depth(self) -> int:
        """The most tokens that a model is given behind the prompt to score everything below the node."""
        return max([len(self.fed), *(child.depth for child in self.children)])


def label_tree(labels: Sequence[Sequence[int]]) -> Node:
    """Return the tree of labels, each given by its tokens (with the one that ends it, where there is one)."""
    return _grow((), (), sorted((tuple(tokens), number) for number, tokens in enumerate(labels)))


def _grow(path: tuple[int, ...], tokens: tuple[int, ...], labels: list[tuple[tuple[int, ...], int]]) -> Node:
    """Return the node behind ``path`` with ``tokens``; ``labels`` are those below it, sorted, by their whole tokens."""
    depth = len(path) + len(tokens)
    node = Node(path, tokens, tuple(number for _, number in labels), tuple(number for whole, number in labels if len(whole) == depth))
    going = [label for label in labels if len(label[0]) > depth]
    while going:
        same = [label for label in going if label[0][depth] == going[0][0][depth]]
        going = going[len(same) :]
        shared = common_prefix_length([list(same[0][0]), list(same[-1][0])])
        node.children.append(_grow(path + tokens, same[0][0][depth:shared], same))
    return node


#: Stands for an answer while a template is looked at: a character of the private use area, which no text holds.
_STAND_IN = "\ue000"


class LabelTrees:
    """The trees of fixed labels behind any prompt, with the tokens that training would have seen.

    Args:
        labels: at least one.
        template, tokenizer: those of the model.
    """

    def __init__(self, labels: Sequence[str], template: Template, tokenizer: PreTrainedTokenizerBase) -> None:
        self._labels, self._template, self._tokenizer = tuple(labels), template, tokenizer
        self._special = SpecialTokens(special_tokens(tokenizer))
        self._is_verbatim: bool | None = None
        self._by_border: dict[tuple[str, tuple[str, ...]], Node] = {}
        self._by_tokens: dict[tuple[tuple[int, ...], ...], Node] = {}

    def behind(self, prompt: PromptValue) -> Node:
        """Return the tree of the labels behind a prompt.

        Which tokens a label has depends on the text before it, but on nothing before the last special token.
        """
        text, answers = self._written(prompt)
        token, end = self._special.last(text)
        border = (token + text[end:], answers)
        if border in self._by_border:
            return self._by_border[border]
        examples = [[Segment(border[0], False), Segment(answer, True)] for answer in answers]
        encoded = encode_examples(examples, self._tokenizer)
        tokens = tuple(tuple(label for label in labels if label != IGNORE_INDEX) for _, labels in encoded)
        tree = self._by_tokens.setdefault(tokens, label_tree(tokens))
        if token:  # without a special token every prompt has a border of its own, which is not worth keeping
            self._by_border[border] = tree
        return tree

    def _written(self, prompt: PromptValue) -> tuple[str, tuple[str, ...]]:
        """Return the text of a prompt, and what the template writes behind it for each label.

        Whether it writes labels as they are is looked at once; then one look at each prompt is enough.
        """
        text, pattern = self._template.with_answer(prompt, _STAND_IN, self._tokenizer)
        filled = tuple(pattern.replace(_STAND_IN, label) for label in self._labels)
        if self._is_verbatim:
            return text, filled
        answers = tuple(self._template.with_answer(prompt, label, self._tokenizer)[1] for label in self._labels)
        if self._is_verbatim is None:
            self._is_verbatim = answers == filled
        return text, answers
