"""``tunesmith merge``."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tunesmith.cli.main import main


@pytest.mark.parametrize("words", [["out", "-o", "merged"], ["-m", "out", "--output-path=merged"]])
def test_a_run_is_merged(words: list[str], fake_api: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["merge", *words]) == 0
    assert capsys.readouterr().out == "Model: merged\n"
    call = fake_api.calls["merge"]
    assert (call["path"], call["output_path"], call["adapter_path"], call["overwrite"]) == ("out", "merged", None, False)


def test_json_and_an_adapter(fake_api: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["merge", "-m", "base", "-a", "ad", "-o", "merged", "--overwrite", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"output_path": "merged"}
    assert (fake_api.calls["merge"]["adapter_path"], fake_api.calls["merge"]["overwrite"]) == ("ad", True)


def test_what_is_missing_is_named_together(fake_api: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["merge"]) == 2
    assert "--model_name_or_path is needed; --output_path is needed" in capsys.readouterr().err
    assert fake_api.calls == {}
