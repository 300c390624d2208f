"""Measuring artifacts: what is counted, what is refused, and that processes take turns. Nothing here looks at how long things take."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, LlamaConfig

from tiny_models import MAX_LENGTH, VOCAB_SIZE, save_tiny, tiny_model, tiny_tokenizer
from tunesmith.data.task_file import TaskRecord, write_task
from tunesmith.data.templates import Template
from tunesmith.errors import ModelError, UsageError, UserError
from tunesmith.evaluate import session_search
from tunesmith.evaluate.bench import bench
from tunesmith.evaluate.measured_process import Loaded, MeasuredProcess
from tunesmith.evaluate.pace import Pace, measure
from tunesmith.evaluate.session_search import tune_session
from tunesmith.runtime.load import load
from tunesmith.runtime.torch_runtime import TorchRuntime

PLAIN = Template(kind="text", text="{text}", answer_column="text")


def test_every_token_is_timed_and_none_ends_the_answer() -> None:
    runtime = TorchRuntime(tiny_model("llama"), tiny_tokenizer(), PLAIN)
    pace = measure(runtime, prompt_tokens=20, new_tokens=7, seed=1)
    assert len(pace.token_s) == 7
    assert all(seconds > 0 for seconds in (pace.prefill_s, *pace.token_s))


def test_an_open_row_gives_the_logits_of_the_whole() -> None:
    runtime = TorchRuntime(tiny_model("llama"), tiny_tokenizer(), PLAIN)
    row = runtime.open_row([5, 6, 7], room=2)
    (whole,) = runtime.token_logits([[5, 6, 7, 8, 9]])
    assert torch.allclose(torch.from_numpy(row.logits[0]), torch.from_numpy(whole[2]), atol=1e-5)
    row.advance([8])
    row.advance([9])
    assert torch.allclose(torch.from_numpy(row.logits[0]), torch.from_numpy(whole[4]), atol=1e-5)


def test_a_head_is_timed_as_a_whole(tmp_path: Path) -> None:
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = LlamaConfig(vocab_size=VOCAB_SIZE, pad_token_id=0, max_position_embeddings=MAX_LENGTH, num_labels=2, **sizes)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    write_task(tmp_path, TaskRecord("text-classification", head=True, labels=("a", "b"), text_columns=("one", "two")))
    assert measure(load(tmp_path), prompt_tokens=20, new_tokens=7, seed=1).token_s == ()


def test_a_context_without_room() -> None:
    runtime = TorchRuntime(tiny_model("llama"), tiny_tokenizer(), PLAIN)
    with pytest.raises(UsageError, match="200 tokens of prompt and 100 of answer don't fit the model's context of 256 tokens"):
        measure(runtime, prompt_tokens=200, new_tokens=100, seed=1)


def test_an_artifact_in_its_own_process(tmp_path: Path) -> None:
    folder = str(save_tiny("llama", tmp_path / "tiny"))
    found = bench([folder], prompt_tokens=8, new_tokens=3, repeats=2, threads=1)[0]
    assert (found.path, found.kind, found.num_repeats, found.new_tokens) == (folder, "torch", 2, 3)
    assert found.size_mb is not None
    assert 0 < found.size_mb < (tmp_path / "tiny" / "model.safetensors").stat().st_size / 1e6
    assert found.token_ms["p50"] <= found.token_ms["p90"] <= found.token_ms["p99"]
    assert found.first_token_ms["p50"] <= found.first_token_ms["max"]


def test_an_artifact_that_is_not_there_is_named(tmp_path: Path) -> None:
    with MeasuredProcess(str(tmp_path / "absent"), prompt_tokens=4, new_tokens=1) as process:
        with pytest.raises(UserError, match="there is no model folder"):
            process.loaded()
        process._process.wait()
        with pytest.raises(ModelError, match="absent ended with status 0: it said nothing"):
            process.repeat(1)
    with pytest.raises(UsageError, match="there is nothing to measure"):
        bench([])


class FakeProcess(MeasuredProcess):
    """Takes as long as its session options say."""

    seconds: Callable[[Mapping[str, Any]], float]
    alive: list[FakeProcess]
    log: list[tuple[int, int]]

    def __init__(self, path: str, *, session_options: Mapping[str, Any] | None = None, **_: Any) -> None:
        self.path, self.options = path, session_options or {}
        FakeProcess.alive.append(self)

    def __exit__(self, *_: object) -> None:
        FakeProcess.alive.remove(self)

    def loaded(self) -> Loaded:
        return Loaded("onnx", 1.0, 10.0, 20.0)

    def repeat(self, seed: int) -> Pace:
        FakeProcess.log.append((FakeProcess.alive.index(self), seed))
        return Pace(type(self).seconds(self.options), ())


def fake_folder(folder: Path, monkeypatch: pytest.MonkeyPatch, seconds: Callable[[Mapping[str, Any]], float], **options: Any) -> Path:
    """A folder of onnxruntime-genai whose speed is a function of its session options, on a machine with four cores."""
    FakeProcess.seconds, FakeProcess.alive, FakeProcess.log = staticmethod(seconds), [], []  # type: ignore[method-assign,assignment]
    monkeypatch.setattr(session_search, "MeasuredProcess", FakeProcess)
    monkeypatch.setattr(session_search, "detect", lambda: type("Machine", (), {"cores": 4}))
    monkeypatch.setattr(session_search.psutil, "cpu_count", lambda: 4)
    (folder / "model.onnx").write_text("")
    settings = {"model": {"decoder": {"filename": "model.onnx", "session_options": options}, "type": "llama"}, "search": {"top_k": 50}}
    (folder / "genai_config.json").write_text(json.dumps(settings))
    return folder


def test_what_gains_is_written_and_nothing_else_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def seconds(options: Mapping[str, Any]) -> float:
        spins = 0.0 if options.get("session.intra_op.allow_spinning") == "0" else 0.2
        return 1 + abs(options["intra_op_num_threads"] - 2) + spins

    folder = fake_folder(tmp_path, monkeypatch, seconds, log_id="x")
    found = tune_session(folder, repeats=3)
    expected = {"log_id": "x", "intra_op_num_threads": 2, "session.intra_op.allow_spinning": "0"}
    assert found.written
    assert found.session_options == expected
    assert found.gain == pytest.approx(3.2 / 1.0 - 1)
    written = json.loads((folder / "genai_config.json").read_text())
    assert written["model"]["decoder"]["session_options"] == expected
    assert written["search"] == {"top_k": 50}
    assert FakeProcess.alive == []
    assert [place for place, seed in FakeProcess.log[:4]] == [0, 1, 0, 1]  # in turn


@pytest.mark.parametrize("gain", [0.0, 0.01])
def test_what_gains_nothing_leaves_the_file_alone(gain: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = fake_folder(tmp_path, monkeypatch, lambda options: 1 - gain * (options["intra_op_num_threads"] == 2))
    before = (folder / "genai_config.json").read_bytes()
    found = tune_session(folder, repeats=3)
    assert (found.written, found.session_options) == (False, {})
    assert (folder / "genai_config.json").read_bytes() == before


def test_a_folder_without_session_options(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has no genai_config\.json, so there are no session options to tune\. Name a folder"):
        tune_session(tmp_path)
