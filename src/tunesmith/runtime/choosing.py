"""The likeliest of known labels for each prompt, without scoring every label in full.

The labels' tokens form a tree, which is searched best first: a label is at most as likely as its beginning, so a beginning that is less
likely than a finished label needs no look at what follows it. The prompt is computed once; what is scored are a few tokens behind it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING

from tunesmith.runtime.batches import plan_batches
from tunesmith.runtime.decoding import BatchDecoder, Prefix
from tunesmith.runtime.label_tree import Node
from tunesmith.runtime.sampling import check_numbers

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

# Legend: B rows, N columns, V vocabulary.

#: The part of the labels' probability that may stay unscored.
MOST_UNSCORED = 1e-3
#: Rows, and logits in floats, of one forward pass.
_MOST_ROWS = 64
_MOST_LOGITS = 2**25


@dataclass
class LabelSearch:
    """The state of one prompt.

    Attributes:
        temperature: of the probabilities.
        most_unscored: the part of them that may stay unscored; 1 when only the likeliest label is asked for.
        open: (log-probability up to and with the first token of the node, the node).
        scored: label -> its log-probability.
    """

    temperature: float
    most_unscored: float = MOST_UNSCORED
    open: list[tuple[float, Node]] = field(default_factory=list)
    scored: dict[int, float] = field(default_factory=dict)

    def take_wanted(self) -> list[tuple[float, Node]]:
        """Take out the nodes that have to be looked into, whatever is found in them.

        Probabilities only fall further down the tree. So the nodes that hold more than ``most_unscored`` of what is there now have to be
        opened before less than that can be left, and so has a node likelier than the best label found.
        """
        if not self.open:
            return []
        self.open.sort(key=lambda entry: -entry[0])
        best = max(self.scored.values(), default=self.open[0][0])  # with nothing scored yet, the likeliest beginning comes first
        top = max(self.open[0][0], best)
        masses = [self._mass(log_prob, node, top) for log_prob, node in self.open]
        unscored = sum(masses)
        total = unscored + sum(math.exp((log_prob - top) / self.temperature) for log_prob in self.scored.values())
        num_wanted = 0
        while num_wanted < len(self.open) and (unscored > self.most_unscored * total or self.open[num_wanted][0] >= best):
            unscored -= masses[num_wanted]
            num_wanted += 1
        wanted, self.open = self.open[:num_wanted], self.open[num_wanted:]
        return wanted

    def enter(self, node: Node, log_prob: float, following: dict[int, float]) -> None:
        """Note that ``node`` has been scored in full; ``following`` are the log-probabilities of the tokens that may come next."""
        self.scored.update(dict.fromkeys(node.complete, log_prob))
        for child in node.children:
            value = log_prob + following[child.tokens[0]]
            if len(child.tokens) == 1 and not child.children:
                self.scored.update(dict.fromkeys(child.complete, value))
            else:
                self.open.append((value, child))

    def probabilities(self, num_labels: int) -> list[float]:
        """Return the labels' probabilities, which add up to 1."""
        top = max([*self.scored.values(), *(log_prob for log_prob, _ in self.open)])
        masses = [0.0] * num_labels
        for label, log_prob in self.scored.items():
            masses[label] = math.exp((log_prob - top) / self.temperature)
        for log_prob, node in self.open:
            for label in node.labels:
                masses[label] = self._mass(log_prob, node, top) / len(node.labels)
        total = sum(masses)
        return [mass / total for mass in masses]

    def _mass(self, log_prob: float, node: Node, top: float) -> float:
        """Return the most that the labels below a node can weigh together: p, or n * p^(1/T) with a temperature T."""
        share = math.exp((log_prob - top) / self.temperature)
        return share if self.temperature == 1.0 else share * len(node.labels)


def choose(
    model: PreTrainedModel,
    prompts: Sequence[list[int]],
    trees: Sequence[Node],
    *,
    temperature: float = 1.0,
    prefix: Prefix | None = None,
    batch_size: int | None = None,
    most_unscored: float = MOST_UNSCORED,
) -> list[tuple[int, list[float]]]:
    """Return the likeliest label of each prompt and the probabilities of all labels.

    Args:
        model: a causal language model in evaluation mode.
        prompts: token ids, at least one each; each with its longest label within the model's context.
        trees: the labels behind each prompt; prompts whose labels have the same tokens may share a tree.
        temperature: log-probabilities are divided by it before they become probabilities.
        prefix: keys and values of what all prompts begin with, where that is known.
        batch_size: prompts at once; by default as many as a budget of tokens allows.
        most_unscored: the part of the labels' probability that may stay unscored; with 1 the label is as exact, and probabilities are not.

    Returns: the label's number, exactly the one of the greatest log-likelihood (the first of equals), and probabilities normalized over the
        labels. Beginnings that together weigh less than 1/1000 stay unscored; what they can weigh at most is shared out evenly among
        their labels, so a probability is wrong by less than 1/1000 and that of a scored label by less than 1/1000 of itself.
    """
    longest = max((tree.depth for tree in trees), default=0)
    chosen: dict[int, tuple[int, list[float]]] = {}
    for batch in plan_batches([len(prompt) for prompt in prompts], max_new_tokens=longest, batch_size=batch_size):
        searches = _search(
            model, [prompts[place] for place in batch], [trees[place] for place in batch], LabelSearch(temperature, most_unscored), prefix
        )
        for place, search in zip(batch, searches, strict=True):
            best = min(search.scored, key=lambda label: (-search.scored[label], label))
            chosen[place] = best, search.probabilities(len(trees[place].labels))
    return [chosen[place] for place in range(len(prompts))]


def _search(
    model: PreTrainedModel, prompts: Sequence[list[int]], trees: Sequence[Node], start: LabelSearch, prefix: Prefix | None
) -> list[LabelSearch]:
    """Search the trees of one batch of prompts until all are decided; ``start`` is the state that each begins with."""
    decoder = BatchDecoder(model, branching=True)
    searches = [LabelSearch(start.temperature, start.most_unscored) for _ in prompts]
    logits = decoder.prefill(prompts, prefix)
    following = _log_probs(logits[:, None], [[(0, child.tokens[0]) for child in tree.children] for tree in trees])
    for search, tree, values in zip(searches, trees, following, strict=True):
        search.enter(tree, 0.0, {child.tokens[0]: value for child, value in zip(tree.children, values, strict=True)})
    while wanted := [(place, *entry) for place, search in enumerate(searches) for entry in search.take_wanted()]:
        for portion in _portions(wanted, logits.shape[-1]):
            _score(decoder, portion, searches)
    return searches


_Wanted = tuple[int, float, Node]


def _portions(wanted: Sequence[_Wanted], vocabulary: int) -> Iterator[list[_Wanted]]:
    """Yield nodes that are scored in one pass: of like length, and few enough for their logits to fit."""
    by_length = sorted(wanted, key=lambda entry: len(entry[2].fed))
    for length, group in groupby(by_length, key=lambda entry: len(entry[2].fed)):
        entries = list(group)
        most = max(1, min(_MOST_ROWS, _MOST_LOGITS // (vocabulary * length)))
        for start in range(0, len(entries), most):
            yield entries[start : start + most]


def _score(decoder: BatchDecoder, wanted: Sequence[_Wanted], searches: Sequence[LabelSearch]) -> None:
    """Score nodes whose ``fed`` are of one length, and enter what is found."""
    logits = decoder.branch([place for place, _, _ in wanted]).extend([node.fed for _, _, node in wanted])  # (B, N, V)
    asked = []
    for _, _, node in wanted:
        begin = len(node.path)
        own = [(begin + place, token) for place, token in enumerate(node.tokens[1:])]
        last = begin + len(node.tokens) - 1
        asked.append(own + [(last, child.tokens[0]) for child in node.children])
    for (place, log_prob, node), values in zip(wanted, _log_probs(logits, asked), strict=True):
        num_own = len(node.tokens) - 1
        following = {child.tokens[0]: value for child, value in zip(node.children, values[num_own:], strict=True)}
        searches[place].enter(node, log_prob + sum(values[:num_own]), following)


def _log_probs(logits: Tensor, asked: Sequence[Sequence[tuple[int, int]]]) -> list[list[float]]:
    """Return log-probabilities of (column, token) pairs, some for each row of ``logits`` ``(B, N, V)``."""
    rows = [row for row, pairs in enumerate(asked) for _ in pairs]
    columns = [column for pairs in asked for column, _ in pairs]
    tokens = [token for pairs in asked for _, token in pairs]
    totals = logits.float().logsumexp(dim=-1)  # (B, N)
    check_numbers(totals)
    values = iter((logits[rows, columns, tokens].float() - totals[rows, columns]).double().tolist())
    return [[next(values) for _ in pairs] for pairs in asked]
