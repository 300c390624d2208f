"""A head through the public commands: tuned, exported, proven, asked, measured; and what can't be made of one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from exported_heads import save_sequence
from tunesmith.cli.main import main

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def run(colours: Path, tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama that has learnt to score three labels, with LoRA."""
    out = tmp_path_factory.mktemp("run") / "run"
    flags = ["--max_steps", "30", "--learning_rate", "5e-3", "--verdict", "false"]
    assert main(["finetune", str(colours), "-m", str(tiny_folder), "--head", *flags, "-o", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def export(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That model as int8."""
    out = tmp_path_factory.mktemp("export") / "int8"
    assert main(["auto-opt", "-m", str(run), "-o", str(out), "--precision", "int8"]) == 0
    return out


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert main(list(arguments)) == 0
    return capsys.readouterr().out


def test_the_folder_is_whole_and_proven(export: Path) -> None:
    manifest = json.loads((export / "manifest.json").read_text())
    assert manifest["kind"] == "onnx"
    assert manifest["export"]["precision"] == "int8"
    assert list(manifest["export"]["model_files"]) == ["model.onnx"]
    assert [stage["name"] for stage in manifest["certificate"]["stages"]][-1] == "quantized"
    assert manifest["certificate"]["passed"]
    readme = (export / "README.md").read_text()
    assert "onnxruntime.InferenceSession" in readme
    assert "OrtValue" in readme


def test_the_export_answers_as_the_run(run: Path, export: Path, colours: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answers = [said(capsys, "generate", str(folder), "thing number 7 in the shop") for folder in (run, export)]
    assert answers[0] == answers[1]
    accuracies = [
        json.loads(said(capsys, "evaluate", str(folder), str(colours), "--json"))["metrics"]["accuracy"] for folder in (run, export)
    ]
    assert accuracies[1] == pytest.approx(accuracies[0], abs=0.05)


def test_an_encoder_decoder_is_exported_and_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = save_sequence("bart", tmp_path / "bart"), tmp_path / "out"
    assert main(["auto-opt", "-m", str(source), "-o", str(out), "--precision", "fp32", "--no-proof"]) == 0
    answers = [said(capsys, "generate", str(folder), "The train", "--max_new_tokens", "12") for folder in (source, out)]
    assert answers[0] == answers[1]
    assert "decoder_model.onnx" in json.loads((out / "manifest.json").read_text())["export"]["model_files"]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--precision", "int4"], ["int4", "fp32, int8"]),
        (["--block_size", "32"], ["--block_size has no effect"]),
        (["--use_model_builder"], ["model_builder"]),
        (["--device", "npu"], ["fixed shapes", "--dim_param batch_size,sequence_length"]),
        (["--dim_param", "width", "--dim_value", "3"], ["width", "batch_size, sequence_length"]),
        (["--dim_param", "batch_size"], ["1 dimensions and --dim_value gives 0"]),
        (["--dim_param", "sequence_length", "--dim_value", "100000"], ["100000", "positions"]),
        (["--format", "gguf"], ["gguf"]),
    ],
)
def test_what_cant_be_made_of_a_head_is_one_line(
    run: Path, tmp_path: Path, flags: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["auto-opt", "-m", str(run), "-o", str(tmp_path / "out"), *flags]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert all(word in line for word in words), line
    assert not list(tmp_path.iterdir())
