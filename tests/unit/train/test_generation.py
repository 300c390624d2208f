"""Losses other than cross-entropy over text: the same numbers and gradients whole, in chunks, packed, and with a teacher."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tiny_models import VOCAB_SIZE, tiny_model
from tunesmith.config.finetune import FinetuneOptions
from tunesmith.config.resolve import resolve
from tunesmith.data.task_file import TaskRecord
from tunesmith.errors import UsageError
from tunesmith.losses.distillation import Distillation
from tunesmith.losses.labels import CrossEntropy, Focal, LabelSmoothing
from tunesmith.methods import build_method
from tunesmith.train.fast import accelerate_model, supervised_loss
from tunesmith.train.fast.loss import module_loss
from tunesmith.train.generation import Generation, text_loss


def batch() -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(4, VOCAB_SIZE, (3, 20), generator=draw)
    labels = ids.clone()
    labels[0, :5], labels[1, :12], labels[2, :2], labels[2, 15:] = -100, -100, -100, -100
    return ids, labels


def gradients(model: nn.Module) -> Tensor:
    found = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    model.zero_grad()
    return found


def adapted(family: str) -> nn.Module:
    torch.manual_seed(0)
    dropout = {"attn_pdrop": 0.0, "resid_pdrop": 0.0, "embd_pdrop": 0.0} if family == "gpt2" else {}
    return build_method("lora", lora_r=4).apply(tiny_model(family, **dropout)).train()


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2"])
def test_cross_entropy_as_a_module_is_the_fast_one(family: str) -> None:
    ids, labels = batch()
    model = adapted(family)
    fast = supervised_loss(model, ids, labels)
    fast.loss_sum.backward()
    expected = gradients(model)
    for chunk in (None, 7):
        found = module_loss(model, ids, labels, CrossEntropy(), chunk_tokens=chunk)
        found.loss_sum.backward()
        assert (found.num_supervised, found.num_correct) == (fast.num_supervised, fast.num_correct)
        torch.testing.assert_close(found.loss_sum, fast.loss_sum, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(gradients(model), expected, rtol=1e-3, atol=1e-5)


WEIGHTS = torch.tensor([0.25, 3.0, 0.0])


def weighed_plainly(model: nn.Module, gamma: float) -> Tensor:
    """The sum of ``weight of the row * (1 - p)^gamma * -log p`` over supervised tokens, from all logits."""
    ids, labels = batch()
    supervised = labels[:, 1:] != -100
    log_p = model(input_ids=ids, use_cache=False).logits[:, :-1].float().log_softmax(-1).gather(2, ids[:, 1:, None]).squeeze(2)
    return (WEIGHTS[:, None] * (1 - log_p.exp()) ** gamma * -log_p)[supervised].sum()


@pytest.mark.parametrize("focal", [False, True], ids=["cross-entropy", "focal"])
@pytest.mark.parametrize(("family", "fast"), [("llama", True), ("llama", False), ("gemma2", True), ("gpt2", False)])
def test_tokens_count_by_the_weight_of_their_row(family: str, fast: bool, focal: bool) -> None:
    model = adapted(family)
    expected = weighed_plainly(model, 1.5 if focal else 0.0)
    expected.backward()
    wanted = gradients(model)
    assert not fast or "packing" in accelerate_model(model)
    task = Generation(TaskRecord(), Focal(1.5) if focal else None, weighted=True)
    ids, labels = batch()
    rows = [{"input_ids": i, "labels": b, "weight": w} for i, b, w in zip(ids.tolist(), labels.tolist(), WEIGHTS.tolist(), strict=True)]
    together = task.collate(rows, 0)
    losses = [task.loss(model, task.part(together, group)) for group in ([2, 0], [1])]
    sum(found.loss_sum for found in losses).backward()  # type: ignore[union-attr]
    torch.testing.assert_close(sum(found.loss_sum for found in losses), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradients(model), wanted, rtol=1e-3, atol=1e-5)
    assert sum(found.count for found in losses) == task.count(together) == int((labels[:, 1:] != -100).sum())  # every token as one


def test_a_head_of_another_kind_weighs_its_own_logits() -> None:
    model = adapted("llama")
    own = type(model.get_base_model()).forward  # type: ignore[operator]

    def doubled(self: nn.Module, **inputs: object) -> object:
        output = own(self, **inputs)
        output.logits = output.logits * 2
        return output

    base = model.get_base_model()  # type: ignore[operator]
    base.forward = doubled.__get__(base)
    found = supervised_loss(model, *batch(), row_weights=WEIGHTS)
    torch.testing.assert_close(found.loss_sum, weighed_plainly(model, 0.0), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("module", [LabelSmoothing(0.2), Focal(1.5)], ids=["smoothing", "focal"])
def test_packed_and_in_chunks_as_whole(module: nn.Module) -> None:
    ids, labels = batch()
    plain, fast = adapted("llama"), adapted("llama")
    assert "packing" in accelerate_model(fast)
    whole = module_loss(plain, ids, labels, module)
    whole.loss_sum.backward()
    chunks = module_loss(fast, ids, labels, module, chunk_tokens=5)
    chunks.loss_sum.backward()
    torch.testing.assert_close(chunks.loss_sum, whole.loss_sum, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradients(fast), gradients(plain), rtol=1e-3, atol=1e-5)


def test_a_teachers_logits_belong_to_the_same_tokens() -> None:
    ids, labels = batch()
    student, teacher = adapted("llama"), tiny_model("llama", seed=3).requires_grad_(False)
    accelerate_model(student)
    module = Distillation(temperature=2.0, alpha=0.7)
    supervised = labels[:, 1:] != -100
    with torch.no_grad():
        own = student(input_ids=ids).logits[:, :-1][supervised]
        theirs = teacher(input_ids=ids).logits[:, :-1][supervised]
        expected = module(own, labels[:, 1:][supervised], theirs) * int(supervised.sum())
    found = module_loss(student, ids, labels, module, teacher=teacher, chunk_tokens=6)
    torch.testing.assert_close(found.loss_sum, expected, rtol=1e-4, atol=1e-4)
    found.loss_sum.backward()
    assert gradients(student).abs().sum() > 0


def test_nothing_supervised_is_zero() -> None:
    ids, labels = batch()
    result = module_loss(adapted("llama"), ids, torch.full_like(labels, -100), Focal())
    result.loss_sum.backward()
    assert (float(result.loss_sum.detach()), result.num_supervised) == (0.0, 0)


def options(**given: Any) -> FinetuneOptions:
    return resolve(FinetuneOptions, [("flag", given)]).options


def test_which_losses_text_takes() -> None:
    assert text_loss(options(), 10) is None
    assert text_loss(options(loss="cross-entropy"), 10) is None
    assert isinstance(text_loss(options(loss="focal", loss_kwargs="gamma=1"), 10), Focal)
    for given, words in (({"loss_kwargs": "gamma=1"}, "--loss_kwargs has no effect"), ({"loss": "contrastive"}, "--task similarity")):
        with pytest.raises(UsageError, match=words):
            text_loss(options(**given), 10)


def test_perplexity_is_of_cross_entropy_alone() -> None:
    assert "perplexity" in Generation(TaskRecord()).metrics(1.0, 1, 2, [])
    assert Generation(TaskRecord(), Focal()).metrics(1.0, 1, 2, []) == {"loss": 1.0, "token_accuracy": 0.5}
    assert Generation(TaskRecord(), weighted=True).metrics(1.0, 1, 2, []) == {"loss": 1.0, "token_accuracy": 0.5}
