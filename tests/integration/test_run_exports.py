"""The real sample model as int4 through the public commands: answers, labels, speed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tunesmith import api
from tunesmith.cli.main import main

pytestmark = pytest.mark.integration

LABELS = ["card_arrival", "lost_or_stolen_card", "exchange_rate"]


@pytest.fixture(scope="module")
def int4(sample_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("onnxruntime_genai", reason="exports for onnxruntime-genai need the extra 'cpu'")
    folder = tmp_path_factory.mktemp("export") / "int4"
    api.optimize(str(sample_model), str(folder), precision="int4", proof=False)
    return folder


def test_it_answers_on_the_command_line(int4: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "-m", str(int4), "Name three colours.", "--max_new_tokens", "24"]) == 0
    streamed = capsys.readouterr().out.strip()
    assert "red" in streamed.lower()
    assert main(["generate", "-m", str(int4), "Name three colours.", "--max_new_tokens", "24", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["generated"].strip() == streamed
    assert answer["stopped"] == (answer["num_tokens"] < 24)


def test_prompts_are_answered_alike_alone_and_together(int4: Path) -> None:
    model = api.load(int4)
    prompts = ["Name three colours.", "What is the capital of France?", "Say hello."]
    together = model.generate(prompts, max_new_tokens=12)
    assert [model.generate([prompt], max_new_tokens=12)[0] for prompt in prompts] == together
    assert "Paris" in together[1].text


def test_a_test_set_is_measured_by_labels(int4: Path, shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(shared_data / "banking77" / "test.jsonl")
    words = ["evaluate", str(int4), file, "--limit", "4", "--labels", *LABELS, "--json"]
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["num_rows"] == 4
    assert 70e6 < found["speed"]["size_bytes"] < 110e6
    assert "num_parameters" not in found["speed"]


def test_it_is_timed_and_tuned(int4: Path, capsys: pytest.CaptureFixture[str]) -> None:
    work = ["--prompt_tokens", "16", "--new_tokens", "4", "--repeats", "1"]
    assert main(["bench", str(int4), *work, "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["kind"], found["new_tokens"]) == ("onnx", 4)
    assert found["memory_mib"] > 50
    assert main(["tune-session-params", str(int4), *work]) == 0
    assert "genai_config.json" in capsys.readouterr().out
    assert main(["generate", "-m", str(int4), "Say hello.", "--max_new_tokens", "4"]) == 0
