"""Pairs of texts: what a row becomes, embeddings, the loss of a built-in and of a user's module, and the threshold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from short_task import PAIRS, base_folder, batch_of, load_for, make_task, prepared

from tunesmith.errors import DataError, UserError
from tunesmith.losses.pairs import Contrastive
from tunesmith.models.pooling import pool
from tunesmith.tasks.similarity import label_value

MODULE = """
import torch
from torch import nn

class Mine(nn.Module):
    def forward(self, output1, output2, label):
        assert output1.shape == output2.shape and output1.dtype == torch.float32 and label.shape == output1.shape[:1]
        torch.testing.assert_close(output1.norm(dim=-1), torch.ones(len(label)))
        return ((output1 - output2).pow(2).sum(-1) * label).mean()
"""


def test_a_row_becomes_two_texts_and_a_number() -> None:
    task: Any = make_task("similarity")
    rows = prepared(task)
    first = rows.dataset[0]
    assert task.tokenizer.decode(first["input_ids"]) == PAIRS[0]["text1"]
    assert task.tokenizer.decode(first["second_ids"]) == PAIRS[0]["text2"]
    assert first["length"] == max(len(first["input_ids"]), len(first["second_ids"]))
    assert rows.dataset["labels"] == [float(row["label"]) for row in PAIRS]


def test_scores_are_brought_between_0_and_1() -> None:
    rows = [{"text1": "a", "text2": "b", "label": score} for score in ("5", 2.5, 0, None)]
    rows = [{**row, "label": None if row["label"] is None else str(row["label"])} for row in rows]
    task = make_task("similarity", rows)
    found = prepared(task, rows)
    assert found.dataset["labels"] == [1.0, 0.5, 0.0]
    assert found.num_dropped_rows == 1
    assert task.for_metric("scores", [(torch.tensor(0.3), torch.tensor(0.5))])[1] == [[2.5]]


def test_labels_as_numbers() -> None:
    assert [label_value(value, "label") for value in (1, 0.5, True, "false", " 2 ", "", None)] == [1, 0.5, 1, 0, 2, None, None]
    for value, words in (("entailment", "--task text-classification --head"), (-1, "from 0"), ("nan", "from 0")):
        with pytest.raises(DataError, match=words):
            label_value(value, "label")


def test_pooling_looks_at_real_tokens_only() -> None:
    hidden = torch.tensor([[[3.0, 0.0], [0.0, 3.0], [9.0, 9.0]], [[0.0, 2.0], [7.0, 7.0], [7.0, 7.0]]])
    lengths = torch.tensor([2, 1])
    torch.testing.assert_close(pool(hidden, lengths, "mean"), torch.tensor([[0.5**0.5, 0.5**0.5], [0.0, 1.0]]))
    torch.testing.assert_close(pool(hidden, lengths, "last"), torch.tensor([[0.0, 1.0], [0.0, 1.0]]))


@pytest.mark.parametrize("family", ["llama", "bert"])
@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_the_loss_of_a_batch_is_that_of_its_pairs_alone(family: str, pooling: str, tmp_path: Path) -> None:
    task: Any = make_task("similarity", pooling=pooling)
    model, batch = load_for(task, base_folder(family, tmp_path)), batch_of(task)
    with torch.no_grad():
        found = task.loss(model, batch)
        embeddings = [
            pool(model(input_ids=torch.tensor([ids])).last_hidden_state, torch.tensor([len(ids)]), pooling)
            for row in prepared(task).dataset
            for ids in (row["input_ids"], row["second_ids"])
        ]
        alone = Contrastive()(torch.cat(embeddings[::2]), torch.cat(embeddings[1::2]), batch["labels"])
        parts = [task.loss(model, task.part(batch, group)) for group in (range(7), range(7, 36))]
    assert float(found.loss_sum / found.count) == pytest.approx(float(alone), rel=1e-4)
    assert float(sum(part.loss_sum for part in parts)) == pytest.approx(float(found.loss_sum), rel=1e-4)


def test_a_module_of_the_users_own_gets_embeddings(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(MODULE)
    task: Any = make_task("similarity", loss=f"{file}:Mine")
    model, batch = load_for(task, base_folder("llama", tmp_path)), batch_of(task)
    result = task.loss(model, batch)
    result.loss_sum.backward()
    assert next(model.parameters()).grad is not None


def test_the_threshold_tells_alike_from_unlike() -> None:
    task: Any = make_task("similarity")
    seen = [(torch.tensor(cosine), torch.tensor(label)) for cosine, label in ((0.9, 1.0), (0.8, 1.0), (0.4, 0.0), (0.1, 0.0))]
    assert task.metrics(0.5, 0, 4, seen) == {"loss": 0.5, "accuracy": 1.0}
    task.settle(seen)
    assert 0.4 < task.record.threshold < 0.8
    assert task.metrics(0.5, 0, 4, [(torch.tensor(0.1), torch.tensor(0.3))]) == {"loss": 0.5}


@pytest.mark.parametrize("options", [{"loss": "focal"}, {"loss_kwargs": "margin=9"}, {"loss_kwargs": "size=9"}])
def test_losses_that_do_not_fit_are_refused(options: dict[str, str]) -> None:
    with pytest.raises(UserError, match="--loss"):
        make_task("similarity", **options)
