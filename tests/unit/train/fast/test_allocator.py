"""Tuning the allocator happens on glibc only, never against what the user has chosen, and harms nothing."""

from __future__ import annotations

import pytest
import torch

from tunesmith.train.fast import allocator
from tunesmith.train.fast.allocator import tune_allocator


@pytest.fixture(autouse=True)
def no_choice_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*allocator.CHOICES, *allocator._PREPARED_PRODUCTS):
        monkeypatch.delenv(name, raising=False)


def test_told_on_glibc_and_twice_is_harmless() -> None:
    assert tune_allocator() == allocator._is_glibc()
    assert tune_allocator() == allocator._is_glibc()
    assert torch.ones(30_000_000).sum() == 30_000_000


@pytest.mark.parametrize("name", allocator.CHOICES)
def test_the_choice_of_the_user_stands(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "something")
    assert not tune_allocator()


@pytest.mark.parametrize("system", ["darwin", "win32"])
def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch, system: str) -> None:
    monkeypatch.setattr(allocator.sys, "platform", system)
    monkeypatch.setattr(allocator.ctypes, "CDLL", None)  # red if it were called
    assert not tune_allocator()


def test_cache_sizes_are_set_unless_the_user_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LRU_CACHE_CAPACITY", "7")
    tune_allocator()
    assert allocator.os.environ["LRU_CACHE_CAPACITY"] == "7"
    assert allocator.os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] == "128"
