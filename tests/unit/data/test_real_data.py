"""The real data sets with the real tokenizer: recognized as they are, and fed at inference as they were trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from tunesmith.data.formats import recognize
from tunesmith.data.prepare import prepare
from tunesmith.data.provenance import data_columns
from tunesmith.data.sources import load_splits
from tunesmith.data.splits import hold_out
from tunesmith.data.templates import choose_template

pytestmark = pytest.mark.integration

CHATML = r"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n{label}<|im_end|>"
FORMATS = {
    "banking77": "text-label",
    "debian_packages": "document-summary",
    "e2e_nlg": "input-output",
    "self_instruct": "alpaca",
    "snips": "text-label",
    "tldr_commands": "alpaca",
}


@pytest.fixture(scope="module")
def tokenizer(sample_model: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(sample_model)  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("options", [{}, {"use_chat_template": False}], ids=["chat", "text"])
def test_training_and_inference_see_the_same_ids(
    name: str, options: dict[str, Any], shared_data: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    train = load_splits(data_name=str(shared_data / name), max_samples=200).train
    form = recognize(train)
    assert form.name == FORMATS[name]
    template = choose_template(form, data_columns(train), tokenizer, **options)
    prepared = prepare(train, template, tokenizer, max_seq_len=2048)
    assert len(prepared.dataset) == len(train)
    for row, example in zip(train, prepared.dataset, strict=True):
        first = next(index for index, label in enumerate(example["labels"]) if label != -100)
        prompt = template.encode_prompt({column: row[column] for column in template.prompt_columns}, tokenizer)
        assert prompt == example["input_ids"][:first]
        answer = tokenizer.decode(example["input_ids"][first:])
        assert answer.strip() == f"{template.answers(row)[0].strip()}{template.stop_tokens[0]}"


def test_banking77_with_a_template_of_its_own(shared_data: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    splits = load_splits(data_name=str(shared_data / "banking77"))
    template = choose_template(None, data_columns(splits.train), tokenizer, text_template=CHATML)
    assert template.stop_tokens == ("<|im_end|>",)
    train, validation = hold_out(splits.train, label_column="label", text_columns=template.prompt_columns)
    assert validation is not None
    assert not set(train["text"]) & set(validation["text"])
    assert set(train["label"]) == set(splits.train["label"])
    assert len(set(validation["label"])) == 77
    prepared = prepare(validation, template, tokenizer)
    text = tokenizer.decode(prepared.dataset[0]["input_ids"])
    assert text == CHATML.replace(r"\n", "\n").format(**validation[0])
