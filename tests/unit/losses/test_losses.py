"""Built-in losses against formulas worked out otherwise; a user's file, and everything that can be wrong with one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tunesmith.errors import UsageError
from tunesmith.losses import LOSSES
from tunesmith.losses.check import check_labels_loss, check_pairs_loss
from tunesmith.losses.distillation import Distillation
from tunesmith.losses.labels import CrossEntropy, Focal, LabelSmoothing
from tunesmith.losses.load import load_loss
from tunesmith.losses.pairs import Contrastive

SCENARIO = """
import torch
import torch.nn as nn
import torch.nn.functional as F

class CustomContrastiveLoss(nn.Module):
    def __init__(self, margin=1.0):
        super().__init__()
        self.margin = margin

    def forward(self, output1, output2, label):
        distance = F.pairwise_distance(output1, output2)
        return torch.mean((1 - label) * distance.pow(2) + label * torch.clamp(self.margin - distance, min=0.0).pow(2))
"""


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(1)
    return torch.randn(7, 5, generator=draw), torch.randint(5, (7,), generator=draw)


def test_cross_entropy_weighs_each_row_by_its_label(batch: tuple[Tensor, Tensor]) -> None:
    logits, labels = batch
    assert torch.allclose(CrossEntropy()(logits, labels), nn.functional.cross_entropy(logits, labels))
    weights = torch.tensor([1.0, 2.0, 0.0, 0.5, 3.0])
    each = -logits.log_softmax(-1)[range(7), labels] * weights[labels]
    assert torch.allclose(CrossEntropy(weights)(logits, labels), each.sum() / 7)


def test_several_labels_at_once_are_yes_or_no_questions(batch: tuple[Tensor, Tensor]) -> None:
    logits, labels = batch
    many = nn.functional.one_hot(labels, 5).float()
    each = -(many * logits.sigmoid().log() + (1 - many) * (1 - logits.sigmoid()).log())
    assert torch.allclose(CrossEntropy()(logits, many), each.mean(), atol=1e-6)
    assert torch.allclose(Focal(0.0)(logits, many), each.mean(), atol=1e-6)
    assert torch.allclose(LabelSmoothing(0.0)(logits, many), each.mean(), atol=1e-6)


def test_label_smoothing_and_focal_against_their_formulas(batch: tuple[Tensor, Tensor]) -> None:
    logits, labels = batch
    log_p = logits.log_softmax(-1)
    target = torch.full_like(logits, 0.2 / 5).scatter_add(1, labels[:, None], torch.full((7, 1), 0.8))
    assert torch.allclose(LabelSmoothing(0.2)(logits, labels), -(target * log_p).sum(-1).mean())
    right = log_p[range(7), labels]
    assert torch.allclose(Focal(2.0)(logits, labels), -((1 - right.exp()) ** 2 * right).mean(), atol=1e-6)
    certain = torch.tensor([[200.0, 0.0]], requires_grad=True)
    Focal(0.5)(certain, torch.tensor([0])).backward()
    assert torch.isfinite(certain.grad).all()  # type: ignore[arg-type]


def test_contrastive_pulls_alike_pairs_together() -> None:
    first, same, across = torch.tensor([[1.0, 0.0]]), torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    loss = Contrastive(0.5)
    assert loss(first, same, torch.tensor([1.0])).item() == pytest.approx(0)
    assert loss(first, across, torch.tensor([1.0])).item() == pytest.approx(1)
    assert loss(first, same, torch.tensor([0.0])).item() == pytest.approx(0.25)
    assert loss(first, across, torch.tensor([0.0])).item() == pytest.approx(0)


def test_distillation_is_cross_entropy_when_the_teacher_agrees(batch: tuple[Tensor, Tensor]) -> None:
    logits, labels = batch
    loss = Distillation(temperature=3.0, alpha=0.25)
    assert torch.allclose(loss(logits, labels, logits), 0.75 * nn.functional.cross_entropy(logits, labels))
    teacher = logits.flip(0)
    p, q = (teacher / 3).softmax(-1), (logits / 3).softmax(-1)
    apart = (p * (p.log() - q.log())).sum(-1).mean()
    assert torch.allclose(loss(logits, labels, teacher), 0.25 * 9 * apart + 0.75 * nn.functional.cross_entropy(logits, labels), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "kwargs"), [("focal", {"gamma": -1}), ("label-smoothing", {"epsilon": 1}), ("contrastive", {"margin": 0})]
)
def test_values_out_of_range_are_refused(name: str, kwargs: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=f"--loss {name}"):
        load_loss(name, kwargs)
    with pytest.raises(UsageError, match=r"temperature is 0, .*; alpha is 2"):
        load_loss("distillation", {"temperature": 0, "alpha": 2})


def test_every_built_in_loss_passes_the_check() -> None:
    for name in LOSSES.names():
        if name == "contrastive":
            check_pairs_loss(load_loss(name), name)
        else:
            check_labels_loss(load_loss(name), name, num_labels=4, teacher=name == "distillation")


def test_the_scenarios_module_works_verbatim(tmp_path: Path) -> None:
    file = tmp_path / "custom_loss.py"
    file.write_text(SCENARIO)
    module = load_loss(f"{file}:CustomContrastiveLoss", {"margin": 0.5})
    assert module.margin == 0.5
    check_pairs_loss(module, "custom_loss.py:CustomContrastiveLoss")


def write(folder: Path, body: str, arguments: str = "self, logits, labels") -> str:
    file = folder / "mine.py"
    file.write_text(f"import torch\nfrom torch import nn\n\nclass Mine(nn.Module):\n    def forward({arguments}):\n        {body}\n")
    return f"{file}:Mine"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("return 1.0", "returns float, no tensor"),
        ("return logits", r"returns a tensor of shape \(6, 3\), not one number"),
        ("return logits.mean().detach()", "without a gradient"),
        ("return logits.mean() * float('nan')", "returns nan"),
        ("return torch.zeros((), requires_grad=True)", "doesn't depend on what the model computed"),
        ("return (logits - logits).abs().sqrt().mean()", "gradient that is not finite"),
        ("return logits.mean() + labels[99]", "fails on a tiny batch .*IndexError"),
    ],
)
def test_bad_results_are_named(tmp_path: Path, body: str, words: str) -> None:
    name = write(tmp_path, body)
    with pytest.raises(UsageError, match=words) as caught:
        check_labels_loss(load_loss(name), name, num_labels=3)
    assert "\n" not in str(caught.value)


def test_another_signature_is_named(tmp_path: Path) -> None:
    name = write(tmp_path, "return logits.mean()", "self, logits")
    with pytest.raises(UsageError, match=r"takes \(logits\), but training calls forward\(logits, labels\)"):
        check_labels_loss(load_loss(name), name, num_labels=3)
    with pytest.raises(UsageError, match=r"forward\(output1, output2, label\)"):
        check_pairs_loss(load_loss(name), name)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nowhere.py:Mine", "there is no file"),
        ("{file}:Mime", "Did you mean 'Mine'"),
        ("{file}:torch", "no subclass of torch.nn.Module"),
        ("{file}", "names no module of the file; it has: Mine"),
        ("cross-entropi", "Did you mean 'cross-entropy'"),
    ],
)
def test_what_is_not_there_is_named(tmp_path: Path, name: str, words: str) -> None:
    file = write(tmp_path, "return logits.mean()").removesuffix(":Mine")
    with pytest.raises(UsageError, match=words):
        load_loss(name.format(file=file))


def test_code_that_breaks_and_arguments_that_do_not_fit(tmp_path: Path) -> None:
    name = write(tmp_path, "return logits.mean()")
    with pytest.raises(UsageError, match="can't be made with --loss_kwargs margin=1"):
        load_loss(name, {"margin": 1})
    (tmp_path / "broken.py").write_text("import no_such_package")
    with pytest.raises(UsageError, match="can't be run: ModuleNotFoundError"):
        load_loss(f"{tmp_path / 'broken.py'}:Mine")
