"""Registries: names without imports, things when asked for, and room for other packages."""

from __future__ import annotations

import importlib.metadata
import sys

import pytest

from tunesmith.errors import UsageError
from tunesmith.registry import Registry


@pytest.fixture
def registry() -> Registry:
    return Registry("shape", {"circle": "json:dumps", "square": "no.such.module:Square"})


def test_names_are_sorted_and_import_nothing(registry: Registry) -> None:
    assert registry.names() == ["circle", "square"]
    assert "no" not in sys.modules


def test_load_imports_what_a_name_stands_for(registry: Registry) -> None:
    import json

    assert registry.load("circle") is json.dumps


def test_unknown_name(registry: Registry) -> None:
    with pytest.raises(UsageError) as caught:
        registry.load("circel")
    assert str(caught.value) == "unknown shape 'circel'; known: circle, square. Did you mean 'circle'?"


def test_other_packages_add_names_but_replace_none(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    points = [
        importlib.metadata.EntryPoint("triangle", "json:loads", "tunesmith.shapes"),
        importlib.metadata.EntryPoint("circle", "json:loads", "tunesmith.shapes"),
    ]
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: points if group == "tunesmith.shapes" else [])
    import json

    assert registry.load("triangle") is json.loads
    assert registry.load("circle") is json.dumps
    assert registry.names() == ["circle", "square", "triangle"]
