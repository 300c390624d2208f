"""From rows to the device in 8 bits, through the public commands: tuned on the grid, shipped as tuned, and certified as that."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tiny_models import save_tiny
from tunesmith.cli.main import main

pytestmark = pytest.mark.integration
pytest.importorskip("onnxruntime_genai", reason="needs onnxruntime-genai (extra 'cpu')")


def test_it_ships_as_it_was_trained(colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, out, base = tmp_path / "run", tmp_path / "onnx", save_tiny("smollm", tmp_path / "base", hidden_size=64)
    options = ["--method", "qlora", "--quant_type", "onnx-int8", "--max_steps", "40", "--learning_rate", "2e-2", "--verdict", "false"]
    assert main(["finetune", "--data_name", str(colours), "-m", str(base), *options, "-o", str(run)]) == 0
    assert json.loads((run / "manifest.json").read_text(encoding="utf-8"))["grid"]["bits"] == 8
    assert main(["auto-opt", str(run), "--limit", "3", "-o", str(out)]) == 0
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    assert (manifest["export"]["precision"], manifest["export"]["recipe"]["adapter"]) == ("int8", "int8")
    last = manifest["certificate"]["stages"][-1]
    assert (manifest["certificate"]["passed"], last["judged"]) == (True, "grid")
    assert main(["certify", str(out), str(run), "--limit", "3"]) == 0
    capsys.readouterr()
    assert main(["generate", "-m", str(out), "thing number 7 in the shop", "--max_new_tokens", "3"]) == 0
    assert capsys.readouterr().out.strip()
