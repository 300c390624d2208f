"""The flow of an export: what has its name when, what is tried next, and every mistake in one line with nothing half-written."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from exported_heads import save_headed
from tiny_models import save_tiny
from tunesmith import api
from tunesmith.cli.main import main
from tunesmith.errors import ExportHarm, OutputError
from tunesmith.export import optimize as flow
from tunesmith.export.certificate import Certificate
from tunesmith.export.stages import StageScores

pytest.importorskip("onnxruntime_genai", reason="needs onnxruntime-genai (extra 'cpu')")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny("smollm", tmp_path_factory.mktemp("tiny") / "model", hidden_size=64)


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What each precision loses, in place of the scoring, which has tests of its own."""
    lost: dict[str, str] = {}

    def prove(source: Any, folder: Path, plan: Any, rows: Any, **_: Any) -> Certificate:
        assert (folder / "manifest.json").is_file()  # whole before it is scored
        failure = lost.get(plan.target.precision)
        return Certificate((StageScores("quantized", "quantized"),), (f"quantized: {failure}",) if failure else ())

    monkeypatch.setattr(flow, "prove", prove)
    return lost


def manifest(folder: Path) -> Any:
    return json.loads((folder / "manifest.json").read_text(encoding="utf-8"))


def left_over(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_smallest_that_loses_nothing_ships(tiny: Path, tmp_path: Path, scored: dict[str, str]) -> None:
    scored["int4"] = "half of its answers"
    made = api.optimize(str(tiny), str(tmp_path / "out"))
    assert made.target.precision == "int8"
    assert made.words[0] == ("int4 lost too much: quantized: half of its answers. --precision auto searches recipes between int4 and int8.")
    assert manifest(tmp_path / "out")["export"]["precision"] == "int8"
    assert manifest(tmp_path / "out")["certificate"]["passed"] is True
    assert left_over(tmp_path) == ["out"]


def test_every_precision_is_proven_by_one_examination(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def prove(source: Any, folder: Path, plan: Any, examination: Any) -> Certificate:
        seen.append(examination)
        return Certificate((StageScores("quantized", "quantized"),), ("quantized: half",) if plan.target.precision == "int4" else ())

    monkeypatch.setattr(flow, "prove", prove)
    api.optimize(str(tiny), str(tmp_path / "out"), limit=7)
    assert len(seen) == 2
    assert seen[0] is seen[1]
    assert seen[0].max_rows == 7


def test_what_was_named_is_not_replaced_and_has_no_name(tiny: Path, tmp_path: Path, scored: dict[str, str]) -> None:
    scored["int4"] = "half of its answers"
    with pytest.raises(ExportHarm, match="half of its answers"):
        api.optimize(str(tiny), str(tmp_path / "out"), precision="int4")
    assert left_over(tmp_path) == []


def test_a_loss_can_be_accepted_and_is_recorded(tiny: Path, tmp_path: Path, scored: dict[str, str]) -> None:
    scored["int4"] = "half of its answers"
    made = api.optimize(str(tiny), str(tmp_path / "out"), accept_loss=True)
    assert made.target.precision == "int4"
    found = manifest(tmp_path / "out")["certificate"]
    assert (found["passed"], found["accepted_loss"]) == (False, True)


def test_an_earlier_result_stays_until_the_new_one_is_proven(tiny: Path, tmp_path: Path, scored: dict[str, str]) -> None:
    api.optimize(str(tiny), str(tmp_path / "out"), precision="int8")
    scored["int4"] = "half of its answers"
    with pytest.raises(ExportHarm):
        api.optimize(str(tiny), str(tmp_path / "out"), precision="int4", overwrite=True)
    assert manifest(tmp_path / "out")["export"]["precision"] == "int8"
    assert left_over(tmp_path) == ["out"]


def test_without_proof_that_is_said(tiny: Path, tmp_path: Path) -> None:
    made = api.optimize(str(tiny), str(tmp_path / "out"), proof=False)
    assert made.certificate is None
    assert "Nothing was proven, as asked." in made.words
    assert manifest(tmp_path / "out")["certificate"] is None


def test_for_hardware_that_is_not_here_it_is_built_and_said(tiny: Path, tmp_path: Path) -> None:
    made = api.optimize(str(tiny), str(tmp_path / "out"), provider="DmlExecutionProvider")
    assert any("this machine can't run DmlExecutionProvider" in sentence for sentence in made.words)
    assert any("never run on such hardware" in sentence for sentence in made.words)


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_full_disk_and_ctrl_c_leave_nothing(error: BaseException, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(flow, "write_extras", fail)  # the model lies in the hidden folder by now
    with pytest.raises(OutputError if isinstance(error, OSError) else KeyboardInterrupt) as raised:
        api.optimize(str(tiny), str(tmp_path / "out"), precision="int4", proof=False)
    assert not isinstance(error, OSError) or "the disk is full" in str(raised.value)
    assert left_over(tmp_path) == []


def test_the_result_as_json(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["optimize", str(tiny), "-o", str(tmp_path / "out"), "--precision", "int4", "--no-proof", "--json", "--use_ort_genai"]
    assert main([*words, "--use_model_builder", "--exporter", "model_builder", "--memory", "1 MB", "--block_size", "16"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["target"] == {"device": "cpu", "provider": "CPUExecutionProvider", "precision": "int4"}
    assert found["size_bytes"] == sum(manifest(tmp_path / "out")["export"]["model_files"].values())


def test_the_narrow_commands(tiny: Path, tmp_path: Path) -> None:
    assert main(["quantize", str(tiny), "-o", str(tmp_path / "q"), "--precision", "int8", "--no-proof"]) == 0
    assert main(["capture-onnx-graph", str(tiny), "-o", str(tmp_path / "c"), "--no-proof"]) == 0
    assert [manifest(tmp_path / name)["export"]["precision"] for name in ("q", "c")] == ["int8", "fp32"]


def existing(folder: Path) -> None:
    (folder / "out").mkdir()
    (folder / "out" / "mine.txt").write_text("mine")


def a_file(folder: Path) -> None:
    (folder / "out").write_text("mine")


def nothing(folder: Path) -> None:
    pass


WRONG: list[tuple[list[str], str]] = [
    (["--precision", "int3"], "--precision is 'int3', not one of"),
    (["--precision", "fp16"], "a decoder model can't be made for --device cpu --provider CPUExecutionProvider --precision fp16"),
    (["--precision", "q8_0"], "can't be made for --device cpu --provider CPUExecutionProvider --precision q8_0"),
    (["--device", "npu"], "a decoder model can't be made for --device npu"),
    (["--device", "tpu"], "--device is 'tpu', not one of"),
    (["--provider", "CPUExecutionProvder"], "Did you mean 'CPUExecutionProvider'"),
    (["--provider", "ROCMExecutionProvider"], "a decoder model can't be made for"),
    (["--device", "cpu", "--provider", "CUDAExecutionProvider"], "There is: --device cpu --provider CPUExecutionProvider"),
    (["--block_size", "48"], "--block_size 48 is not possible. Possible: 16, 32, 64, 128, 256"),
    (["--block_size", "32", "--precision", "fp32"], "--block_size has no effect with --precision fp32"),
    (["--block_size", "32", "--extra_options", "block_size=64"], "--block_size 32 and --extra_options block_size=64 differ"),
    (["--memory", "much"], "--memory much is no number of bytes. For example: --memory 2GB"),
    (["--memory", "0"], "--memory 0 is no number of bytes"),
    (["--memory", "10kB", "--precision", "int4", "--no-proof"], "--memory allows 0.0 MB. Take a smaller model"),
    (["--dim_param", "batch_size"], "--dim_param names 1 dimensions and --dim_value gives 0 sizes"),
    (["--dim_param", "batch_size", "--dim_value", "0"], "a dimension has at least size 1"),
    (["--dim_param", "batch_size", "--dim_value", "1"], "have no effect on a model that onnxruntime-genai runs"),
    (["--exporter", "dynamo_exporter"], "--exporter dynamo_exporter can't make a decoder model"),
    (["--no-use_ort_genai"], "--no-use_ort_genai is not possible"),
    (["--no-use_model_builder"], "--no-use_model_builder is not possible"),
    (["--extra_options", "adapter_path=x"], "--extra_options adapter_path is decided by tunesmith itself"),
    (["--extra_options", "use_qdq=perhaps", "--precision", "int4"], "the model builder refuses: use_qdq must be"),
    (["--adapter_precision", "fp16", "--precision", "int4"], "--adapter_precision is for an adapter that stays beside the weights"),
    (["--data_files", "absent.jsonl"], "absent.jsonl"),
    (["--data_files", "rows.jsonl", "--no-proof"], "--data_files has no effect with --no-proof"),
    (["--adapter_path", "absent"], "the adapter folder absent does not exist"),
    (["--revision", "main"], "is not on the hub"),
    (["--model_script", "net.py:make"], "both name a model"),
    (["--task_drop", "2"], "--task_drop"),
    (["--format", "gguf", "--provider", "cpu"], "--provider has no effect with --format gguf"),
    (["--format", "tflite"], "--format is 'tflite', not one of onnx, gguf"),
    (["--precison", "int4"], "precision"),
]


@pytest.mark.parametrize(("words", "said"), WRONG, ids=[" ".join(words) for words, _ in WRONG])
def test_mistakes_are_one_line_and_leave_nothing(
    words: list[str], said: str, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["auto-opt", str(tiny), "-o", str(tmp_path / "out"), *words]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert said in errors[-1]
    assert errors[-1].startswith("tunesmith: error: ")
    assert left_over(tmp_path) == []


@pytest.mark.parametrize(
    ("before", "words", "said"),
    [
        (nothing, ["auto-opt", "absent-model/", "-o", "out"], "there is no model folder absent-model/"),
        (nothing, ["auto-opt", "."], "--output_path is needed"),
        (existing, ["auto-opt", "TINY", "-o", "out"], "the output folder out exists and is not empty"),
        (existing, ["auto-opt", "TINY", "-o", "out", "--overwrite"], "--overwrite only replaces folders that tunesmith made"),
        (a_file, ["auto-opt", "TINY", "-o", "out"], "the output folder out is a file"),
        (nothing, ["auto-opt", "--model_script", "absent.py:make", "-o", "out"], "there is no file absent.py"),
        (nothing, ["auto-opt", "--model_script", "net.py", "-o", "out"], "no function"),
        (nothing, ["quantize", "TINY", "-o", "out", "--precision", "fp32"], "not one of int4, int8"),
        (nothing, ["capture-onnx-graph", "TINY", "-o", "out", "--precision", "int4"], "not one of fp32, fp16, bf16"),
        (nothing, ["auto-opt", "ENCODER", "-o", "out", "--use_ort_genai"], "--use_ort_genai is not possible: it runs no head model"),
        (nothing, ["auto-opt", "ENCODER", "-o", "out", "--block_size", "32"], "--block_size has no effect on a head model"),
        (nothing, ["auto-opt", "ENCODER", "-o", "out", "--extra_options", "a=1"], "which makes no head model"),
        (nothing, ["auto-opt", "ENCODER", "-o", "out", "--precision", "int4"], "there is --precision fp32, int8"),
        (nothing, ["auto-opt", "ENCODER", "-o", "out", "--device", "npu"], "this device needs fixed shapes"),
    ],
)
def test_mistakes_of_other_kinds(
    before: Callable[[Path], None],
    words: list[str],
    said: str,
    tiny: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (folder := tmp_path / "here").mkdir()
    monkeypatch.chdir(folder)
    if "ENCODER" in words:
        save_headed("bert", "text-classification", tmp_path / "encoder")
    before(folder)
    kept = left_over(folder)
    named = {"TINY": str(tiny), "ENCODER": str(tmp_path / "encoder")}
    assert main([named.get(word, word) for word in words]) == 2
    assert said in capsys.readouterr().err.splitlines()[-1]
    assert left_over(folder) == kept


SCRIPT = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 3))

    def forward(self, x):
        return self.layers(x)

def make():
    torch.manual_seed(0)
    return Net(), {"x": torch.randn(2, 64)}

def one_row():
    return Net(), {"x": torch.randn(1, 64)}

def number():
    return 3

def broken():
    raise ValueError("no weights here")
"""


def test_a_model_by_script_then_quantized(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(SCRIPT)
    made = api.optimize(None, str(tmp_path / "fp32"), model_script=f"{tmp_path / 'net.py'}:make")
    assert any("outputs for the script's example are the model's" in sentence for sentence in made.words)
    smaller = api.optimize(str(tmp_path / "fp32"), str(tmp_path / "int8"), precision="int8")
    assert smaller.size_bytes < made.size_bytes
    assert manifest(tmp_path / "int8")["parent_hash"]


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("mak", "has no function 'mak'"),
        ("one_row", "the example needs two rows or more"),
        ("number", "returned int, not a model and an example"),
        ("broken", "raised ValueError: no weights here"),
    ],
)
def test_scripts_that_are_no_models(function: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "net.py").write_text(SCRIPT)
    assert main(["auto-opt", "--model_script", f"{tmp_path / 'net.py'}:{function}", "-o", str(tmp_path / "out")]) == 2
    assert said in capsys.readouterr().err.splitlines()[-1]
    assert left_over(tmp_path) == ["net.py"] or left_over(tmp_path) == ["__pycache__", "net.py"]
