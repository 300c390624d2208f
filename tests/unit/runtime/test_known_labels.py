"""Which labels are chosen among, on decoders and on encoder-decoders alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from tiny_encoders import save_tiny_encoder_decoder
from tiny_models import save_tiny
from tunesmith.data.task_file import TaskRecord, write_task
from tunesmith.errors import UsageError
from tunesmith.runtime.known_labels import known_labels
from tunesmith.runtime.load import load

TASK = TaskRecord("text-classification", labels=("happy", "sad"))


def test_those_of_training_unless_others_are_named() -> None:
    assert known_labels(TASK, None) == ("happy", "sad")
    assert known_labels(TASK, ["b", "a", "b"]) == ("b", "a")
    assert known_labels(TaskRecord(), ["b"]) == ("b",)


@pytest.mark.parametrize("family", ["t5", "llama"])
def test_what_is_refused(family: str, tmp_path: Path) -> None:
    folder = (save_tiny_encoder_decoder if family == "t5" else save_tiny)(family, tmp_path / "model")
    untrained = load(folder, dtype="float32")
    write_task(folder, TASK)
    runtime = load(folder, dtype="float32")
    for asked, labels, words in (
        (untrained, None, "knows no labels to choose from"),
        (runtime, [], "there is no label to choose from"),
        (runtime, ["happy", " "], "a label is empty"),
    ):
        with pytest.raises(UsageError, match=words):
            asked.choose(["a text"], labels)
