"""What the tests through the public command share: a tiny model folder and small data files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tiny_models import save_tiny


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama with its tokenizer, as a folder."""
    return save_tiny("llama", tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty rows of text and label."""
    file = tmp_path_factory.mktemp("data") / "colours.jsonl"
    names = ("red", "green", "blue")
    rows = [{"text": f"thing number {number} in the shop", "label": names[number % 3]} for number in range(60)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file
