"""A temperature and a threshold are the best ones there are, found by trying many."""

from __future__ import annotations

import pytest
import torch

from tunesmith.tasks.calibration import fit_temperature, fit_threshold


def test_the_temperature_is_the_likeliest_of_a_fine_grid() -> None:
    draw = torch.Generator().manual_seed(0)
    truth = torch.randn(400, 5, generator=draw)
    labels = torch.multinomial(truth.softmax(-1), 1, generator=draw).squeeze(1)
    for scale in (0.3, 1.0, 6.0):
        logits = truth * scale
        grid = torch.logspace(-1.2, 1.2, 2000)
        losses = torch.stack([torch.nn.functional.cross_entropy(logits / t, labels, label_smoothing=1 / 402) for t in grid])
        assert fit_temperature(logits, labels) == pytest.approx(float(grid[losses.argmin()]), rel=5e-3)
    assert fit_temperature(truth * 6, labels) == pytest.approx(6, rel=0.2)


def test_several_labels_have_a_temperature_too() -> None:
    draw = torch.Generator().manual_seed(0)
    truth = torch.randn(400, 3, generator=draw)
    labels = torch.bernoulli(truth.sigmoid(), generator=draw)
    assert fit_temperature(truth * 4, labels) == pytest.approx(4, rel=0.25)


def test_rows_that_are_all_right_do_not_make_certain() -> None:
    logits = torch.tensor([[5.0, 0.0]] * 30)
    temperature = fit_temperature(logits, torch.zeros(30, dtype=torch.long))
    assert float((logits / temperature).softmax(-1)[0, 0]) == pytest.approx(1 - 1 / 32 / 2, abs=1e-3)
    assert fit_temperature(logits[:5], torch.zeros(5, dtype=torch.long)) == 1.0


def test_the_threshold_is_the_best_cut() -> None:
    draw = torch.Generator().manual_seed(0)
    scores = (torch.randn(200, generator=draw) * 10).round() / 10  # many equal ones
    alike = scores + torch.randn(200, generator=draw) > 0.3

    def right(threshold: float) -> int:
        return int(((scores >= threshold) == alike).sum())

    assert right(fit_threshold(scores, alike)) == max(right(float(cut)) for cut in torch.arange(-4, 4, 0.05))
    assert fit_threshold(torch.tensor([0.2, 0.6]), torch.tensor([True, True])) < 0.2
