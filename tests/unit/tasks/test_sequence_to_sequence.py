"""Encoder-decoders: what a row becomes, the same loss as plain transformers, methods, and answers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from datasets import Dataset
from short_task import train

from tiny_encoders import save_tiny_encoder_decoder, tiny_encoder_decoder
from tiny_models import tiny_tokenizer
from tunesmith.data.task_file import TaskRecord
from tunesmith.data.templates import Template
from tunesmith.errors import DataError, UsageError
from tunesmith.losses.labels import CrossEntropy, Focal
from tunesmith.methods import build_method
from tunesmith.methods.adapters import load_adapter
from tunesmith.models.heads import is_encoder_decoder
from tunesmith.models.load import load_model
from tunesmith.models.sources import resolve_model
from tunesmith.models.structure import linear_names
from tunesmith.runtime.sequence_runtime import SequenceRuntime
from tunesmith.tasks.rows import Limits
from tunesmith.tasks.sequence_to_sequence import SequenceToSequence

TEMPLATE = Template(kind="text", text="{document}\n\nSummary: {summary}", task="summarization", answer_column="summary")
ROWS = [{"document": f"the train to the city number {n} {'is late ' * (n % 4)}", "summary": f"train {n}"} for n in range(8)]


def make_task(**changes: object) -> SequenceToSequence:
    return SequenceToSequence(TaskRecord("summarization"), TEMPLATE, tiny_tokenizer(), **changes)  # type: ignore[arg-type]


def batch_of(task: SequenceToSequence) -> dict[str, torch.Tensor]:
    return task.collate(list(task.prepare(Dataset.from_list(ROWS), Limits()).dataset), int(tiny_tokenizer().pad_token_id))


def test_a_row_is_a_prompt_and_an_answer_that_ends() -> None:
    tokenizer = tiny_tokenizer()
    rows = make_task().prepare(Dataset.from_list([*ROWS, {"document": "x", "summary": ""}]), Limits())
    assert tokenizer.decode(rows.dataset[1]["input_ids"]) == ROWS[1]["document"] + "\n\nSummary:"
    assert tokenizer.decode(rows.dataset[1]["labels"]) == "train 1<|im_end|>"
    assert rows.num_dropped_rows == 1
    with pytest.raises(DataError, match="rows are longer than 4 tokens"):
        make_task().prepare(Dataset.from_list(ROWS), Limits(max_seq_len=4))


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_the_loss_is_that_of_plain_transformers(family: str) -> None:
    task, model = make_task(), tiny_encoder_decoder(family)
    batch = batch_of(task)
    mask = (batch["input_ids"] != tiny_tokenizer().pad_token_id).long()
    with torch.no_grad():
        expected = model(input_ids=batch["input_ids"], attention_mask=mask, labels=batch["labels"]).loss
        found = task.loss(model, batch)
        parts = [task.loss(model, task.part(batch, group)) for group in (range(3), range(3, 8))]
        as_module = make_task(loss=CrossEntropy()).loss(model, batch)
    assert found.count == task.count(batch) == int((batch["labels"] != -100).sum())
    assert float(found.loss_sum / found.count) == pytest.approx(float(expected), rel=1e-5)
    assert float(sum(part.loss_sum for part in parts)) == pytest.approx(float(found.loss_sum), rel=1e-4)
    assert float(as_module.loss_sum) == pytest.approx(float(found.loss_sum), rel=1e-5)


def test_tokens_count_by_the_weight_of_their_row() -> None:
    model, weights = tiny_encoder_decoder("t5"), [0.5 * number for number in range(len(ROWS))]
    plain, task, focal = make_task(), make_task(weighted=True), make_task(weighted=True, loss=Focal(gamma=0.0))
    rows = [
        {**row, "weight": weight} for row, weight in zip(plain.prepare(Dataset.from_list(ROWS), Limits()).dataset, weights, strict=True)
    ]
    batch = task.collate(rows, int(tiny_tokenizer().pad_token_id))
    with torch.no_grad():
        expected = sum(float(plain.loss(model, plain.part(batch, [n])).loss_sum) * weight for n, weight in enumerate(weights))
        for weighed in (task, focal):
            found = [weighed.loss(model, weighed.part(batch, group)) for group in ([5, 0, 1], [7, 2, 3, 4, 6])]
            assert sum(float(part.loss_sum) for part in found) == pytest.approx(expected, rel=1e-5)
            assert sum(part.count for part in found) == plain.count(batch)


@pytest.mark.parametrize("family", ["t5", "bart"])
@pytest.mark.parametrize("name", ["lora", "dora", "full"])
def test_methods_train_both_halves_and_reload(family: str, name: str, tmp_path: Path) -> None:
    source = resolve_model(save_tiny_encoder_decoder(family, tmp_path / "base"))
    assert is_encoder_decoder(source)
    task, method = make_task(), build_method(name)
    model = method.apply(method.load_base(source, dtype="float32", device="cpu", trust_remote_code=False, task=task.head))
    batch = batch_of(task)
    losses = train(model, method, task, batch, rate=2e-3)  # type: ignore[arg-type]
    assert losses[-1] < losses[0]
    method.save(model, tmp_path / "saved")
    again = load_model(source if method.saves_adapter else resolve_model(tmp_path / "saved"), dtype="float32", task="sequence-to-sequence")
    reloaded = load_adapter(again, tmp_path / "saved") if method.saves_adapter else again
    with torch.no_grad():
        torch.testing.assert_close(task.loss(reloaded, batch).loss_sum, task.loss(model, batch).loss_sum, rtol=1e-5, atol=1e-5)
        if method.saves_adapter:
            merged = method.merge(reloaded)
            torch.testing.assert_close(task.loss(merged, batch).loss_sum, task.loss(model, batch).loss_sum, rtol=1e-4, atol=1e-4)


def test_linear_layers_of_both_halves_are_found() -> None:
    names = linear_names(tiny_encoder_decoder("t5"))
    assert any(name.startswith("encoder.") for name in names)
    assert any(name.startswith("decoder.") for name in names)


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_answers_are_those_of_generate_and_as_likely_as_the_loss_says(family: str) -> None:
    tokenizer, model, task = tiny_tokenizer(), tiny_encoder_decoder(family), make_task()
    runtime = SequenceRuntime(model, tokenizer, TEMPLATE, TaskRecord("summarization", max_seq_len=64))
    answers = runtime.generate([{"document": row["document"]} for row in ROWS], max_new_tokens=6)
    ids = torch.tensor([task.prepare(Dataset.from_list(ROWS[:1]), Limits()).dataset[0]["input_ids"]])
    plain = model.generate(input_ids=ids, max_new_tokens=6, do_sample=False, num_beams=1)[0, 1:]  # type: ignore[operator]
    assert answers[0].text == tokenizer.decode(plain, skip_special_tokens=True).strip()
    scored = runtime.log_likelihoods([({"document": row["document"]}, row["summary"]) for row in ROWS])
    with torch.no_grad():
        total = task.loss(model, batch_of(task))
    assert -sum(one.log_prob for one in scored) == pytest.approx(float(total.loss_sum), rel=1e-4)
    assert sum(one.num_tokens for one in scored) == total.count
    assert runtime.token_ids(ROWS[0]["document"]) == tokenizer(ROWS[0]["document"]).input_ids
    with pytest.raises(UsageError, match="reads prompt and answer apart"):
        runtime.token_logits([[1, 2]])
    (choice,) = runtime.choose(["the train"], ["red", "blue"])
    assert sum(choice.probabilities) == pytest.approx(1)
    drawn = [runtime.generate(["the train"], max_new_tokens=6, temperature=1.0, seed=3)[0].text for _ in range(2)]
    assert drawn[0] == drawn[1]
