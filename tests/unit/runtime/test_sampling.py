"""Choosing tokens: greedy, drawn, and drawn alike whatever else is in the batch."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from tunesmith.errors import ModelError, UsageError
from tunesmith.runtime.sampling import Sampling

LOGITS = torch.randn(6, 40, generator=torch.Generator().manual_seed(0)) * 3
PROMPTS = [[index, 7] for index in range(6)]


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"temperature": -0.1}, "temperature is -0.1"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"temperature": float("inf")}, "temperature is inf"),
        ({"top_p": 0.0}, "top_p is 0.0"),
        ({"top_p": 1.5}, "top_p is 1.5"),
    ],
)
def test_values_out_of_range_are_refused(values: dict[str, float], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        Sampling(**values)


def test_temperature_zero_takes_the_likeliest() -> None:
    sampling = Sampling()
    assert sampling.choose(LOGITS, sampling.draws(PROMPTS)) == LOGITS.argmax(dim=-1).tolist()


@pytest.mark.parametrize("values", [{"temperature": 1e-7}, {"temperature": 1.0, "top_p": 1e-9}])
def test_the_limits_of_sampling_are_greedy(values: dict[str, float]) -> None:
    sampling = Sampling(**values, seed=1)
    assert sampling.choose(LOGITS, sampling.draws(PROMPTS)) == LOGITS.argmax(dim=-1).tolist()


@pytest.mark.parametrize("top_p", [1.0, 0.7])
def test_draws_belong_to_the_prompt_not_to_the_batch(top_p: float) -> None:
    sampling = Sampling(temperature=1.0, top_p=top_p, seed=5)
    draws = sampling.draws(PROMPTS)
    together = [sampling.choose(LOGITS, draws) for _ in range(4)]
    for row in range(6):
        alone = sampling.draws([PROMPTS[row]])
        assert [sampling.choose(LOGITS[row : row + 1], alone)[0] for _ in range(4)] == [step[row] for step in together]


def test_the_same_prompt_twice_is_drawn_twice() -> None:
    sampling = Sampling(temperature=1.0, seed=5)
    first, second = sampling.draws([[1, 2], [1, 2]])
    assert first.random() != second.random()


def test_without_a_seed_every_call_draws_anew() -> None:
    assert Sampling(temperature=1.0).draws([[1]])[0].random() != Sampling(temperature=1.0).draws([[1]])[0].random()


def test_tokens_are_drawn_as_often_as_they_are_likely() -> None:
    sampling = Sampling(temperature=0.5, seed=2)
    logits = torch.tensor([[0.2, 1.0, -0.5, 0.0]])
    expected = (logits[0] / 0.5).softmax(dim=-1)
    counts = Counter(sampling.choose(logits.expand(20_000, -1), sampling.draws([[1]] * 20_000)))
    assert [counts[token] / 20_000 for token in range(4)] == pytest.approx(expected.tolist(), abs=0.012)


def test_top_p_leaves_out_the_tail_and_keeps_the_ratios() -> None:
    sampling = Sampling(temperature=1.0, top_p=0.75, seed=2)
    logits = torch.tensor([[0.1, 0.5, 0.3, 0.1]]).log()  # 0.5 + 0.3 reach 0.75
    counts = Counter(sampling.choose(logits.expand(20_000, -1), sampling.draws([[1]] * 20_000)))
    assert set(counts) == {1, 2}
    assert counts[1] / 20_000 == pytest.approx(0.5 / 0.8, abs=0.012)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_logits_that_are_no_numbers_are_an_error(bad: float) -> None:
    logits = LOGITS.clone()
    logits[2, 3] = bad
    with pytest.raises(ModelError, match="not numbers"):
        Sampling().choose(logits, Sampling().draws(PROMPTS))
