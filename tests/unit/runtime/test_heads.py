"""Models that end in a head: loaded by what is written beside their weights, they choose, tag and compare."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    BertConfig,
    LlamaConfig,
)

from tiny_encoders import segment_tokenizer
from tiny_models import MAX_LENGTH, VOCAB_SIZE, save_tiny, tiny_model, tiny_tokenizer
from tunesmith.data.task_file import TaskRecord, write_task
from tunesmith.errors import DataError, ModelError, UsageError
from tunesmith.runtime.load import load
from tunesmith.runtime.protocol import Span
from tunesmith.runtime.tagger import spans_of

LABELS = ("angry", "happy", "sad")
TEXTS = ["where is my card?", "a", "the train to the city leaves at seven in the morning"]
SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "initializer_range": 0.4}


def save_head(folder: Path, family: str, auto: Any, task: TaskRecord | None, **config: Any) -> Any:
    """Write a tiny model with a random head; returns the model."""
    tokenizer = tiny_tokenizer()
    known = {"vocab_size": VOCAB_SIZE, "pad_token_id": tokenizer.pad_token_id, "max_position_embeddings": MAX_LENGTH, **SIZES, **config}
    made = LlamaConfig(num_key_value_heads=2, **known) if family == "llama" else BertConfig(**known)
    torch.manual_seed(1)
    model = auto.from_config(made).eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if task is not None:
        write_task(folder, task)
    return model


def alone(model: Any, text: str) -> Any:
    """What transformers gives for one text without padding."""
    with torch.no_grad():
        return model(**tiny_tokenizer()(text, return_tensors="pt", return_token_type_ids=False))


@pytest.mark.parametrize("family", ["llama", "bert"])
def test_a_classifier_chooses_as_its_logits_say(family: str, tmp_path: Path) -> None:
    task = TaskRecord("text-classification", head=True, labels=LABELS, temperature=2.0)
    model = save_head(tmp_path, family, AutoModelForSequenceClassification, task, num_labels=3)
    runtime = load(tmp_path, dtype="float32")
    for text, choice, answer in zip(TEXTS, runtime.choose(TEXTS), runtime.generate(TEXTS), strict=True):
        logits = alone(model, text).logits[0]
        assert choice.probabilities == pytest.approx((logits / 2).softmax(-1).tolist(), abs=1e-4)
        assert choice.labels == (LABELS[int(logits.argmax())],)
        assert (answer.text, answer.stopped) == (choice.labels[0], True)
    assert "".join(runtime.stream(TEXTS[0])) == runtime.generate(TEXTS[:1])[0].text
    assert runtime.choose([{"text": TEXTS[0], "label": "x"}, [{"role": "user", "content": TEXTS[0]}]]) == [runtime.choose(TEXTS[:1])[0]] * 2
    assert runtime.template.answers({"text": "a", "label": "sad"}) == ["sad"]


def test_several_labels_at_once(tmp_path: Path) -> None:
    task = TaskRecord("text-classification", head=True, labels=LABELS, multi_label=True, threshold=0.4)
    model = save_head(tmp_path, "llama", AutoModelForSequenceClassification, task, num_labels=3)
    runtime = load(tmp_path, dtype="float32")
    for text, choice, answer in zip(TEXTS, runtime.choose(TEXTS), runtime.generate(TEXTS), strict=True):
        chances = alone(model, text).logits[0].sigmoid()
        assert choice.labels == tuple(label for label, chance in zip(LABELS, chances, strict=True) if chance >= 0.4)
        assert answer.text == ", ".join(choice.labels)
    assert len({choice.labels for choice in runtime.choose([*TEXTS, "happy", "sad 0 1 2"])}) > 1


def test_a_pair_of_texts_is_read_as_in_training(tmp_path: Path) -> None:
    task = TaskRecord("text-classification", head=True, labels=LABELS, text_columns=("one", "two"))
    model = save_head(tmp_path, "llama", AutoModelForSequenceClassification, task, num_labels=3)
    runtime = load(tmp_path, dtype="float32")
    expected = alone(model, "a train\nseven").logits[0].softmax(-1).tolist()
    assert runtime.choose([{"one": "a train", "two": "seven"}])[0].probabilities == pytest.approx(expected, abs=1e-4)
    with pytest.raises(DataError, match=r"reads several texts \(one, two\)"):
        runtime.choose(["a"])
    with pytest.raises(DataError, match=r"no column 'two'.*it has: one, 2"):
        runtime.choose([{"one": "a", "2": "b"}])


@pytest.mark.parametrize("family", ["llama", "bert"])
def test_words_are_tagged_at_their_first_sub_word(family: str, tmp_path: Path) -> None:
    tags = ("O", "B-per", "I-per", "B-loc", "I-loc")
    task = TaskRecord("token-classification", head=True, labels=tags)
    model = save_head(tmp_path, family, AutoModelForTokenClassification, task, num_labels=5)
    runtime: Any = load(tmp_path, dtype="float32")
    texts = ["train city,morning", "the train leaves at seven!"]
    words = [[(0, 5), (6, 10), (10, 11), (11, 18)], [(0, 3), (4, 9), (10, 16), (17, 19), (20, 25), (25, 26)]]
    found = runtime.tag_words(texts, words)
    for text, places, row in zip(texts, words, found, strict=True):
        encoded = tiny_tokenizer()(text, return_offsets_mapping=True, return_token_type_ids=False)
        likeliest = alone(model, text).logits[0].argmax(-1)
        firsts = [next(n for n, (start, end) in enumerate(encoded["offset_mapping"]) if end > word[0]) for word in places]
        assert row == [tags[int(likeliest[place])] for place in firsts]
    if family == "llama":  # random tags differ from word to word, so that a wrong place would be seen
        assert len({tag for row in found for tag in row}) > 1
    spans = runtime.tag(texts)
    assert spans == [spans_of(row, places) for row, places in zip(found, words, strict=True)]
    said = json.loads(runtime.generate(texts[:1])[0].text)
    assert said == [{"start": s.start, "end": s.end, "label": s.label, "text": texts[0][s.start : s.end]} for s in spans[0]]


def test_a_decoder_is_asked_at_the_last_sub_word(tmp_path: Path) -> None:
    tags = ("O", "B-per", "I-per", "B-loc", "I-loc")
    task = TaskRecord("token-classification", head=True, labels=tags, sub_word="last")
    model = save_head(tmp_path, "llama", AutoModelForTokenClassification, task, num_labels=5)
    runtime: Any = load(tmp_path, dtype="float32")
    text, words = "train city,morning", [(0, 5), (6, 10), (10, 11), (11, 18)]
    offsets = tiny_tokenizer()(text, return_offsets_mapping=True)["offset_mapping"]
    lasts = [max(n for n, (start, _) in enumerate(offsets) if start < word[1]) for word in words]
    likeliest = alone(model, text).logits[0].argmax(-1)
    expected = [tags[int(likeliest[place])] for place in lasts]
    assert runtime.tag_words([text], [words]) == [expected]
    (tmp_path / "task.json").write_text(json.dumps({"name": "token-classification", "head": True, "labels": tags}))
    earlier: Any = load(tmp_path, dtype="float32")
    firsts = [next(n for n, (_, end) in enumerate(offsets) if end > word[0]) for word in words]
    assert earlier.tag_words([text], [words]) == [[tags[int(likeliest[place])] for place in firsts]], "a run of before is read as it learnt"
    assert expected != [tags[int(likeliest[place])] for place in firsts]


def test_a_pair_is_read_with_types_where_training_gave_them(tmp_path: Path) -> None:
    task = TaskRecord("text-classification", head=True, labels=LABELS, text_columns=("one", "two"), token_types=True, max_seq_len=24)
    model, tokenizer = save_head(tmp_path, "bert", AutoModelForSequenceClassification, task, num_labels=3), segment_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    rows = [{"one": "a train", "two": "seven"}, {"one": "the city", "two": "leaves at seven " * 9}]
    found = load(tmp_path, dtype="float32").choose(rows)
    for row, choice in zip(rows, found, strict=True):
        plain = tokenizer(row["one"], row["two"], truncation="longest_first", max_length=24, return_tensors="pt")
        with torch.no_grad():
            expected = model(**plain).logits[0].softmax(-1).tolist()
        assert choice.probabilities == pytest.approx(expected, abs=1e-4)
    write_task(tmp_path, replace(task, token_types=False))
    assert load(tmp_path, dtype="float32").choose(rows)[0].probabilities != pytest.approx(found[0].probabilities, abs=1e-3)


@pytest.mark.parametrize(
    ("tags", "spans"),
    [
        ("B-x I-x O B-y", [(0, 2, "x"), (3, 4, "y")]),
        ("B-x B-x I-y O", [(0, 1, "x"), (1, 2, "x"), (2, 3, "y")]),
        ("I-x I-x O I-x", [(0, 2, "x"), (3, 4, "x")]),
        ("x x y O", [(0, 2, "x"), (2, 3, "y")]),
        ("S-x B-x E-x S-y", [(0, 1, "x"), (1, 3, "x"), (3, 4, "y")]),
        ("U-x B-x L-x I-x", [(0, 1, "x"), (1, 3, "x"), (3, 4, "x")]),
        ("O O O O", []),
    ],
)
def test_tags_of_every_scheme_become_spans(tags: str, spans: list[tuple[int, int, str]]) -> None:
    words = [(0, 1), (2, 3), (4, 5), (6, 7)]
    starts = [0, 2, 4, 6]
    assert spans_of(tags.split(), words) == [Span(starts[first], starts[last - 1] + 1, label) for first, last, label in spans]


@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_embeddings_have_unit_length_and_forget_padding(pooling: str, tmp_path: Path) -> None:
    task = TaskRecord("similarity", head=True, pooling=pooling, text_columns=("text1", "text2"), label_column="label")
    model = save_head(tmp_path, "llama", AutoModel, task)
    runtime: Any = load(tmp_path, dtype="float32")
    vectors = runtime.embed(TEXTS)
    assert (vectors.shape, vectors.dtype) == ((3, 32), np.float32)
    for text, vector in zip(TEXTS, vectors, strict=True):
        hidden = alone(model, text).last_hidden_state[0]
        expected = torch.nn.functional.normalize(hidden.mean(0) if pooling == "mean" else hidden[-1], dim=0)
        assert vector == pytest.approx(expected.numpy(), abs=1e-5)
    pair = {"text1": TEXTS[0], "text2": TEXTS[1]}
    assert runtime.similarities([pair]) == [pytest.approx(float(vectors[0] @ vectors[1]))]
    assert runtime.generate([pair])[0].text == f"{float(vectors[0] @ vectors[1]):.4f}"


def test_long_texts_lose_their_end_and_that_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    task = TaskRecord("text-classification", head=True, labels=LABELS, max_seq_len=8)
    model = save_head(tmp_path, "llama", AutoModelForSequenceClassification, task, num_labels=3)
    runtime = load(tmp_path, dtype="float32")
    found = runtime.choose(["0 " * 50, "a"])[0]
    assert caplog.text.count("Texts longer than 8 tokens lose their end") == 1
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([tiny_tokenizer()("0 " * 50).input_ids[:8]])).logits[0]
    assert found.probabilities == pytest.approx(logits.softmax(-1).tolist(), abs=1e-4)


def test_a_plain_classifier_of_transformers_needs_no_task_file(tmp_path: Path) -> None:
    names = dict(enumerate(LABELS))
    save_head(tmp_path, "bert", AutoModelForSequenceClassification, None, id2label=names, label2id={v: k for k, v in names.items()})
    runtime = load(tmp_path)
    assert (runtime.task.name, runtime.task.head, runtime.task.labels) == ("text-classification", True, LABELS)
    assert runtime.choose(["a"])[0].labels[0] in LABELS


def test_an_adapter_brings_its_head(tmp_path: Path) -> None:
    """The head is in the adapter (modules_to_save); the base has none."""
    from peft import LoraConfig, get_peft_model

    save_tiny("llama", tmp_path / "base")
    base = AutoModelForSequenceClassification.from_pretrained(tmp_path / "base", num_labels=3, pad_token_id=tiny_tokenizer().pad_token_id)
    base.float()
    tuned = get_peft_model(base, LoraConfig(task_type="SEQ_CLS", target_modules=["q_proj"], init_lora_weights=False)).eval()
    tuned.save_pretrained(tmp_path / "adapter")
    write_task(tmp_path / "adapter", TaskRecord("text-classification", head=True, labels=LABELS))
    expected = alone(tuned, TEXTS[0]).logits[0].softmax(-1).tolist()
    runtime = load(tmp_path / "base", adapter_path=tmp_path / "adapter", dtype="float32")
    assert runtime.choose(TEXTS[:1])[0].probabilities == pytest.approx(expected, abs=1e-4)


def test_what_a_head_refuses(tmp_path: Path) -> None:
    task = TaskRecord("text-classification", head=True, labels=LABELS)
    save_head(tmp_path, "llama", AutoModelForSequenceClassification, task, num_labels=3)
    runtime = load(tmp_path)
    with pytest.raises(UsageError, match="temperature has no effect on a model with a head"):
        runtime.generate(["a"], temperature=1.0)
    with pytest.raises(UsageError, match="writes no text"):
        runtime.log_likelihoods([("a", "b")])
    with pytest.raises(UsageError, match="among the labels it was trained on"):
        runtime.choose(["a"], ["yes", "no"])
    with pytest.raises(UsageError, match="reads no template"):
        runtime.with_template(runtime.template)
    assert runtime.token_ids(TEXTS[0]) == tiny_tokenizer()(TEXTS[0]).input_ids
    with pytest.raises(UsageError, match="foresees no tokens"):
        runtime.token_logits([[1, 2]])


def test_labels_that_do_not_fit_the_head(tmp_path: Path) -> None:
    save_head(tmp_path, "bert", AutoModelForSequenceClassification, None, num_labels=3)
    write_task(tmp_path, TaskRecord("text-classification", head=True))
    with pytest.raises(UsageError, match=r"has 3 outputs, but its task\.json names 0 labels"):
        load(tmp_path).choose(["a"])


@pytest.mark.parametrize(
    ("content", "words"), [("{", "can't be read"), ('{"name": "summarization", "head": true}', "which no head is for")]
)
def test_a_broken_task_file(content: str, words: str, tmp_path: Path) -> None:
    save_tiny("llama", tmp_path)
    (tmp_path / "task.json").write_text(content)
    with pytest.raises(ModelError, match=words):
        load(tmp_path)


def test_a_task_without_a_head_is_known_too(tmp_path: Path) -> None:
    save_tiny("llama", tmp_path)
    write_task(tmp_path, TaskRecord("text-classification", labels=LABELS))
    runtime = load(tmp_path, dtype="float32")
    assert runtime.task.labels == LABELS
    assert runtime.choose(["a"])[0].labels[0] in LABELS
    assert tiny_model("llama").config.architectures is None
