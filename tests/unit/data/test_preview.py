"""Examples shown as the model sees them."""

from __future__ import annotations

import pytest
from datasets import Dataset

from tiny_models import tiny_tokenizer
from tunesmith.data.prepare import Prepared, prepare
from tunesmith.data.preview import show_examples
from tunesmith.data.preview_rows import preview_rows
from tunesmith.data.sources import Splits
from tunesmith.data.templates import choose_template


@pytest.fixture
def prepared() -> Prepared:
    tokenizer = tiny_tokenizer()
    template = choose_template(None, ["q", "a"], tokenizer, text_template="Q: {q}\nA: {a}")
    return prepare(Dataset.from_list([{"q": "why", "a": "so"}, {"q": "how", "a": "thus"}]), template, tokenizer)


def test_masked_parts_stand_in_brackets(prepared: Prepared) -> None:
    shown = show_examples(prepared, tiny_tokenizer(), 1)
    assert shown.partition("\n")[2] == "[Q: why\nA:] so<|im_end|>"
    assert f"Example 1: {prepared.dataset[0]['length']} tokens, " in shown


def test_masked_parts_are_dimmed_in_colour(prepared: Prepared) -> None:
    assert "\x1b[2mQ: why\nA:\x1b[0m so<|im_end|>" in show_examples(prepared, tiny_tokenizer(), 1, color=True)


@pytest.mark.parametrize(("asked", "shown"), [(0, 0), (1, 1), (5, 2)])
def test_as_many_as_there_are(prepared: Prepared, asked: int, shown: int) -> None:
    assert show_examples(prepared, tiny_tokenizer(), asked).count("Example ") == shown


@pytest.mark.parametrize(
    ("rows", "shown"),
    [
        ([{"text": "a tea", "json": [{"item": "tea"}, {"size": 2}]}], '[{"item": "tea"}, {"size": 2}]'),
        ([{"text": "both", "label": ["b", "a"]}, {"text": "one", "label": ["b"]}], '["a", "b"]'),
    ],
)
def test_answers_that_are_no_text_are_shown_as_they_are_learnt(rows: list[dict[str, object]], shown: str) -> None:
    found = preview_rows(Splits(Dataset.from_list(rows), None, None, "rows"), tiny_tokenizer(), num_rows=1)
    assert found.num_examples == 1
    assert shown in found.text
