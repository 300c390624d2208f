"""Real trainings through the public interface: where labels have nothing to do with the texts no seed gains, where they do all seeds do."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

import tunesmith
from tunesmith.report import page

pytestmark = pytest.mark.integration

LABELS = ("card", "parcel", "refund")
MOODS = {"card": "happy", "parcel": "sad", "refund": "angry"}
#: (seed, planted=…) -> the verdict and the tuned model's accuracy
Outcome = Callable[..., tuple[str, float]]


def rows(seed: int, *, planted: bool) -> list[dict[str, str]]:
    """Texts with labels that follow from their first word, or were drawn without a look at them."""
    draw = random.Random(seed)
    found = []
    for number in range(120):
        label = LABELS[number % 3]
        found.append({"text": f"{MOODS[label]} {draw.randrange(10_000)}", "label": label if planted else draw.choice(LABELS)})
    draw.shuffle(found)
    return found


@pytest.fixture
def outcome(tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Outcome:
    """Train on rows as a user would, and return what the verdict is; the page of the run, a second each, is left out."""
    monkeypatch.setattr(page, "write_report", lambda folder: folder)
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))

    def train(seed: int, *, planted: bool) -> tuple[str, float]:
        file = tmp_path / f"{seed}.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows(seed, planted=planted)))
        settings = {
            "max_steps": 60,
            "per_device_train_batch_size": 16,
            "learning_rate": 5e-3,
            "validation_fraction": 0.3,
            "show_answers": 0,
        }
        result = tunesmith.finetune(
            str(file), model_name_or_path=str(tiny_folder), method="full", seed=seed, output_path=str(tmp_path / f"out{seed}"), **settings
        )
        assert result.verdict is not None
        return result.verdict["outcome"], result.verdict["tuned"]

    return train


def test_planted_gains_are_found(outcome: Outcome) -> None:
    """By the same settings, so that the runs below are trainings that could show a gain."""
    found = [outcome(seed, planted=True) for seed in range(4)]
    assert Counter(name for name, _ in found) == {"gain": 4}, found


def test_twenty_of_twenty_runs_on_shuffled_labels_gain_nothing(outcome: Outcome) -> None:
    found = [outcome(seed, planted=False) for seed in range(20)]
    assert Counter(name for name, _ in found) == {"no gain shown": 20}, found
    assert len({score for _, score in found}) > 1, "models that learnt something, each something else"
