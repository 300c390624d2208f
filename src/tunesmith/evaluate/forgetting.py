"""Whether a tuned model forgot what its base could: perplexity of text that has nothing to do with the task, before and after.

Two kinds of text: the documentation of Python's standard library, and what the base model itself says in a chat. Both are small and
always the same, so that figures of different runs can be compared.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tunesmith.data.samples.stdlib_source import parse_files, standard_library
from tunesmith.data.templates import Template
from tunesmith.errors import DataError

if TYPE_CHECKING:
    from tunesmith.runtime.torch_runtime import TorchRuntime

#: Modules whose documentation is prose that hardly changes between Python versions.
_MODULES = ("textwrap.py", "statistics.py", "heapq.py", "csv.py", "json/__init__.py", "datetime.py", "shelve.py", "calendar.py", "ast.py")
_MOST_CHARACTERS, _LEAST_CHARACTERS = 900, 60
_MOST_TOKENS = 1500
#: What the base model is asked; nothing that data for fine-tuning is likely to be about.
QUESTIONS = (
    "What is the capital of France, and what is it known for?",
    "Give me three tips for a good night's sleep.",
    "Explain in two sentences how a bicycle stays upright.",
    "Write a short poem about the sea.",
    "Why is the sky blue?",
    "How do I boil an egg?",
)
ANSWER_TOKENS = 48
#: Above these, a rise of perplexity is called forgetting, and forgetting much.
A_LITTLE, MUCH = 1.1, 1.5
#: Tokens of one forward pass: their logits are alive at once.
_WINDOW = 256

_KINDS = {"documentation": "general text (the standard library's documentation)", "chat": "the base model's own chat answers"}


@dataclass(frozen=True)
class ScoredText:
    """Token ids of a text, and how many of the first are given and not scored."""

    ids: tuple[int, ...]
    num_given: int


@dataclass(frozen=True)
class Probe:
    """The texts that both models are shown, by kind."""

    texts: Mapping[str, tuple[ScoredText, ...]]


def make_probe(base: TorchRuntime) -> Probe:
    """Return the texts of the probe, the chat answers as the base model gives them now (greedy)."""
    from tunesmith.runtime.untuned import untuned_template

    tokenizer = base.tokenizer
    texts = {"documentation": _documentation(tokenizer), "chat": _chat(base, untuned_template(tokenizer, base.model))}
    return Probe({kind: found for kind, found in texts.items() if found})


def perplexities(runtime: TorchRuntime, probe: Probe) -> dict[str, float]:
    """Return the perplexity of each kind of text."""
    return {kind: math.exp(min(mean_loss(runtime.model, texts), 50.0)) for kind, texts in probe.texts.items()}


def compare(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, Any]:
    """Return perplexities before and after by kind, the largest ratio between them, and all that in a sentence."""
    kinds = [kind for kind in _KINDS if kind in before and kind in after]
    ratio = max((after[kind] / before[kind] for kind in kinds), default=1.0)
    told = "; ".join(f"{_KINDS[kind]} {before[kind]:,.1f} before, {after[kind]:,.1f} after" for kind in kinds)
    if ratio <= A_LITTLE:
        judged = "Nothing is forgotten that this probe can see"
    elif ratio <= MUCH:
        judged = "It forgets a little"
    else:
        judged = (
            "It forgets much of what is not in the data; fewer steps, a lower --learning_rate or some general rows among the data keep more"
        )
    return {
        **{kind: {"base": before[kind], "tuned": after[kind]} for kind in kinds},
        "ratio": ratio,
        "words": f"{judged}. Perplexity of {told}.",
    }


def mean_loss(model: Any, texts: Sequence[ScoredText]) -> float:
    """Return the mean cross-entropy of the scored tokens of all texts, in nats.

    Args:
        model: a causal language model of transformers, with or without adapters; it is left in the mode it was in.
        texts: each of at least two tokens.
    """
    import torch

    device = next(model.parameters()).device
    total, count, training = 0.0, 0, model.training
    model.eval()
    with torch.no_grad():
        for text in texts:
            ids = torch.tensor([text.ids], device=device)
            logits = model(input_ids=ids[:, :-1]).logits[0]  # (T - 1, V)
            first = max(text.num_given - 1, 0)
            losses = torch.nn.functional.cross_entropy(logits[first:].float(), ids[0, first + 1 :], reduction="sum")
            total += float(losses)
            count += ids.shape[1] - 1 - first
    model.train(training)
    return total / max(count, 1)


def documentation() -> list[str]:
    """Return paragraphs of the standard library's documentation, always the same ones for one Python version.

    Raises:
        DataError: when this Python comes without the library's source.
    """
    root = standard_library()
    found = []
    for source in parse_files([root / name for name in _MODULES if (root / name).is_file()], root=root):
        for node in (source.tree, *source.definitions()):
            for paragraph in (ast.get_docstring(node) or "").split("\n\n"):
                text = " ".join(paragraph.split())
                # prose alone: examples, tables and lists of parameters are another kind of text
                if len(text) >= _LEAST_CHARACTERS and ">>>" not in text and text[0].isalpha() and text.endswith("."):
                    found.append(text[:_MOST_CHARACTERS])
    return list(dict.fromkeys(found))


def _documentation(tokenizer: Any) -> tuple[ScoredText, ...]:
    try:
        paragraphs = documentation()
    except DataError:
        return ()
    chosen, total = [], 0
    for text in paragraphs[:: max(1, len(paragraphs) // 40)]:
        ids = tokenizer(text, verbose=False)["input_ids"][:_WINDOW]  # it would warn of texts beyond its context, before they are cut
        if len(ids) > 1 and total + len(ids) <= _MOST_TOKENS:
            chosen.append(ScoredText(tuple(ids), 1))
            total += len(ids)
    return tuple(chosen)


def _chat(base: TorchRuntime, template: Template) -> tuple[ScoredText, ...]:
    """Return the base model's answers with the questions in front of them."""
    answers = base.with_template(template).generate(QUESTIONS, max_new_tokens=ANSWER_TOKENS)
    found = []
    for question, answer in zip(QUESTIONS, answers, strict=True):
        prompt = template.encode_prompt(question, base.tokenizer)
        ids = base.tokenizer(answer.text, add_special_tokens=False, verbose=False)["input_ids"]
        if ids:
            found.append(ScoredText((*prompt, *ids), len(prompt)))
    return tuple(found)
