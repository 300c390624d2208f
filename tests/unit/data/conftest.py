"""A cache of its own for every test, and files written on the spot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest_types import Write

from tunesmith.data.cache import quiet_datasets


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees what another one kept."""
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    quiet_datasets()


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write bytes, a text, or rows as JSON lines under a name in the test's folder, which is the working folder too."""
    monkeypatch.chdir(tmp_path)

    def write_file(name: str, content: Any) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, list):
            content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in content)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write_file
