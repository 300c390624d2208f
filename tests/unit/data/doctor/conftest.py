"""Files written on the spot, and their examination."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from doctor_rows import Examine, Rows, encoded

from tunesmith.data.doctor.examine import examine
from tunesmith.data.doctor.report import Report


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Examine:
    """Examine training rows, and test rows when there are any."""
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))

    def examined(train: Rows, test: Rows | None = None, **options: Any) -> Report:
        files = {"train": [tmp_path / "train.jsonl"]}
        (tmp_path / "train.jsonl").write_bytes(encoded(train))
        if test is not None:
            (tmp_path / "test.jsonl").write_bytes(encoded(test))
            files["test"] = [tmp_path / "test.jsonl"]
        return examine(files, **options)

    return examined
