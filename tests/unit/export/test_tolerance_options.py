"""``auto-opt`` takes every tolerance that the certificate knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tunesmith.cli.main import main
from tunesmith.errors import UsageError
from tunesmith.export import optimize as flow
from tunesmith.export.tolerances import Tolerances


def test_every_tolerance_is_an_option(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[Any] = []

    def remember(path: str, output_path: str, request: Any, proof: Any, **more: Any) -> Any:
        seen.append(proof.tolerances.to_dict())
        raise UsageError("enough")

    monkeypatch.setattr(flow, "optimize", remember)
    given = {"merged_logits": 0.5, "float_top1": 0.9, "task_drop": 0.2, "perplexity_rise": 0.3, "grid_top1": 0.8}
    words = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    assert main(["auto-opt", "model", "-o", str(tmp_path / "out"), *words]) == 2
    assert main(["auto-opt", "model", "-o", str(tmp_path / "out")]) == 2
    assert seen == [given, Tolerances().to_dict()]
