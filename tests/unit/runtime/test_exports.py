"""Exported folders: onnxruntime-genai and llama.cpp answer as PyTorch does, and what can't be run is refused in one line."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tiny_exports import HEAD_DIM, PLAIN
from tiny_exports import genai_folder as genai_folder  # fixtures
from tiny_exports import gguf_folder as gguf_folder
from tiny_models import CHAT_TEMPLATE, MAX_LENGTH, tiny_model, tiny_tokenizer
from tunesmith.data.task_file import TaskRecord, write_task
from tunesmith.data.template_file import write_template
from tunesmith.data.templates import Template
from tunesmith.errors import DataError, DependencyError, ModelError, UsageError
from tunesmith.evaluate.speed import model_size
from tunesmith.runtime.engine_runtime import EngineRuntime
from tunesmith.runtime.exports import export_kind
from tunesmith.runtime.load import load
from tunesmith.runtime.torch_runtime import TorchRuntime

PROMPTS = ["The train", "Could you send me the report by Friday? ", "a", "Label: happy. Text: what", "a<|im_end|>", "a<|endoftext|>"]
LABELS = ("happy", "sad", "angry and sad", "angry and happy now")


def loaded(folder: Path, **arguments: Any) -> EngineRuntime:
    runtime = load(folder, threads=1, **arguments)  # llama.cpp's threads wait for each other busily
    assert isinstance(runtime, EngineRuntime)
    return runtime


@pytest.fixture(scope="module", params=["genai", "gguf"])
def runtime(request: pytest.FixtureRequest) -> EngineRuntime:
    found = loaded(request.getfixturevalue(f"{request.param}_folder")).with_template(PLAIN)
    assert found.kind == {"genai": "onnx", "gguf": "gguf"}[request.param]
    return found


@pytest.fixture(scope="module")
def in_torch() -> TorchRuntime:
    return TorchRuntime(tiny_model("llama", head_dim=HEAD_DIM), tiny_tokenizer(), PLAIN)


def bound(runtime: EngineRuntime) -> float:
    """How far logits may be from PyTorch's: llama.cpp keeps keys and values in float16."""
    return 1e-5 if runtime.kind == "onnx" else 5e-3


def test_logits_of_every_token(runtime: EngineRuntime, in_torch: TorchRuntime) -> None:
    rows = [in_torch.token_ids(prompt) for prompt in PROMPTS]
    assert [runtime.token_ids(prompt) for prompt in PROMPTS] == rows
    for one, other in zip(runtime.token_logits(rows), in_torch.token_logits(rows), strict=True):
        assert np.abs(one - other).max() < bound(runtime)


def test_reading_on_gives_the_logits_of_reading_anew(runtime: EngineRuntime, in_torch: TorchRuntime) -> None:
    engine = runtime._engine
    whole = [5, 77, 34, 2, 99, 41, 200, 7, 0, 9]
    (expected,) = in_torch.token_logits([whole])
    for row in (whole[:4], whole[:5], whole, whole[:3], [*whole[:6], 17], whole, whole):
        found = engine.read(row)
        if row == whole[: len(row)]:
            assert np.abs(found[0] - expected[len(row) - 1]).max() < bound(runtime)
    assert np.abs(engine.read(whole, num_logits=3) - expected[-3:]).max() < bound(runtime)


def test_a_row_outgrows_the_memory_that_was_taken_for_it(runtime: EngineRuntime, in_torch: TorchRuntime) -> None:
    rows = [[7] * 3, [7] * (MAX_LENGTH - 1)]
    for one, other in zip(runtime.token_logits(rows), in_torch.token_logits(rows), strict=True):
        assert np.abs(one[-1] - other[-1]).max() < 10 * bound(runtime)


def test_labels_and_likelihoods(runtime: EngineRuntime, in_torch: TorchRuntime) -> None:
    for one, other in zip(runtime.choose(PROMPTS, LABELS), in_torch.choose(PROMPTS, LABELS), strict=True):
        assert one.labels == other.labels
        assert one.probabilities == pytest.approx(other.probabilities, abs=10 * bound(runtime))
    pairs = [(prompt, "yes it is") for prompt in PROMPTS]
    for scored, right in zip(runtime.log_likelihoods(pairs), in_torch.log_likelihoods(pairs), strict=True):
        assert scored.log_prob == pytest.approx(right.log_prob, abs=10 * bound(runtime))


@pytest.mark.parametrize("sampling", [{}, {"temperature": 0.9, "top_p": 0.8, "seed": 4}], ids=["greedy", "sampled"])
def test_batch_single_and_stream_give_the_same_answers(runtime: EngineRuntime, in_torch: TorchRuntime, sampling: dict[str, Any]) -> None:
    together = runtime.generate(PROMPTS, max_new_tokens=16, **sampling)
    assert [runtime.generate([prompt], max_new_tokens=16, **sampling)[0] for prompt in PROMPTS] == together
    assert ["".join(runtime.stream(prompt, max_new_tokens=16, **sampling)) for prompt in PROMPTS] == [answer.text for answer in together]
    if runtime.kind == "onnx":
        assert together == in_torch.generate(PROMPTS, max_new_tokens=16, **sampling)


def test_an_answer_stops_in_a_batch_while_others_go_on(genai_folder: Path, in_torch: TorchRuntime) -> None:
    runtime = loaded(genai_folder).with_template(PLAIN)
    first = in_torch.generate(["The train"], max_new_tokens=4)[0]
    stop = Template(kind="text", text="{text}", answer_column="text", stop_tokens=(first.text[1:3],))
    answers = runtime.with_template(stop).generate(PROMPTS, max_new_tokens=16)
    assert answers == in_torch.with_template(stop).generate(PROMPTS, max_new_tokens=16)
    assert {answer.stopped for answer in answers} == {True, False}


def test_prompts_beyond_the_context(runtime: EngineRuntime) -> None:
    assert runtime.context_length == MAX_LENGTH
    with pytest.raises(DataError, match="but the model's context is 256 tokens"):
        runtime.generate(["b" * 400])
    answer = runtime.generate(["b" * (MAX_LENGTH - 4)], max_new_tokens=30)[0]
    assert answer.num_tokens <= 4


def test_a_folder_of_another_program_is_asked_by_its_chat_template(genai_folder: Path) -> None:
    runtime = loaded(genai_folder)
    assert (runtime.template.kind, runtime.template.chat_template) == ("chat", CHAT_TEMPLATE)
    assert runtime.template.stop_tokens == ("<|im_end|>",)
    size = sum((genai_folder / name).stat().st_size for name in ("model.onnx", "model.onnx.data"))
    assert model_size(runtime) == {"size_bytes": float(size)}


def test_the_template_and_the_task_of_training_are_those_of_the_export(genai_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(genai_folder, tmp_path / "export")
    write_template(folder, Template(kind="text", text="{text}: {label}", answer_column="label", stop_tokens=("!",)))
    write_task(folder, TaskRecord("text-classification", labels=LABELS))
    runtime = loaded(folder)
    assert runtime.generate(["a"])[0].text in LABELS
    assert runtime.template.stop_tokens == ("!",)


def edited(folder: Path, tmp_path: Path, **changes: Any) -> Path:
    """A copy of a genai folder with another ``model`` in its configuration."""
    copy = shutil.copytree(folder, tmp_path / "copy")
    settings = json.loads((copy / "genai_config.json").read_text())
    settings["model"] |= changes
    (copy / "genai_config.json").write_text(json.dumps(settings))
    return copy


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "genai_config.json can't be read"),
        ("[]", "genai_config.json can't be read"),
        ("{}", "genai_config.json can't be read: it has no 'model'"),
        ('{"model": {"decoder": {"filename": "other.onnx"}}}', "has no other.onnx, which its genai_config.json names"),
        ('{"model": {"decoder": {"filename": 3}}}', "names no model.decoder.filename"),
    ],
)
def test_broken_configurations(genai_folder: Path, tmp_path: Path, content: str, words: str) -> None:
    folder = shutil.copytree(genai_folder, tmp_path / "copy")
    (folder / "genai_config.json").write_text(content)
    with pytest.raises(ModelError, match=words):
        load(folder)


def test_a_folder_without_its_graph_or_with_half_of_it(genai_folder: Path, tmp_path: Path) -> None:
    folder = edited(genai_folder, tmp_path)
    (folder / "model.onnx").write_bytes((folder / "model.onnx").read_bytes()[:1000])
    with pytest.raises(ModelError, match="can't be run by onnxruntime-genai"):
        load(folder)
    (folder / "model.onnx").unlink()
    with pytest.raises(ModelError, match=r"has no model\.onnx, which its genai_config\.json names"):
        load(folder)


def test_a_type_that_the_library_does_not_know(genai_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"can't be run by onnxruntime-genai: .*nonsense"):
        load(edited(genai_folder, tmp_path, type="nonsense"))


def test_a_folder_without_a_tokenizer(genai_folder: Path, tmp_path: Path) -> None:
    folder = edited(genai_folder, tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    with pytest.raises(ModelError, match="tokenizer"):
        load(folder)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"adapter_path": "adapter"}, "is an export, which takes no adapter. Export the model with its adapter"),
        ({"dtype": "float32"}, "is an export, whose precision was decided when it was made"),
        ({"device": "cuda"}, "is an export, which runs on what it was made for"),
        ({"revision": "main"}, "--revision names a version of a model on the hub"),
    ],
)
def test_what_an_export_can_not_heed(genai_folder: Path, arguments: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        load(genai_folder, **arguments)


@pytest.mark.parametrize(("kind", "package"), [("genai", "onnxruntime-genai"), ("gguf", "llama-cpp-python")])
def test_an_engine_that_is_not_installed(kind: str, package: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = request.getfixturevalue(f"{kind}_folder")
    there = importlib.util.find_spec
    absent = ("onnxruntime_genai", "llama_cpp")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name in absent else there(name, *rest))
    with pytest.raises(DependencyError, match=f"'{package}', which is not installed. Install it: pip install"):
        load(folder)


def test_gguf_folders_that_can_not_be_run(gguf_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(gguf_folder, tmp_path / "copy")
    (folder / "model.gguf").write_bytes((folder / "model.gguf").read_bytes()[:5000])
    with pytest.raises(ModelError, match=r"model\.gguf"):
        load(folder)
    (folder / "model.gguf").unlink()
    with pytest.raises(ModelError, match=r"has no model\.gguf\. Copy the whole folder"):
        load(folder)


def test_a_tokenizer_that_does_not_fit_the_graph(genai_folder: Path) -> None:
    runtime = loaded(genai_folder)
    with pytest.raises(ModelError, match="onnxruntime-genai can't compute with"):
        next(runtime.token_logits([[5, 100_000]]))
    assert len(next(runtime.token_logits([[5, 6]]))) == 2


def test_threads_below_one(genai_folder: Path) -> None:
    with pytest.raises(UsageError, match="threads is 0, but something has to compute"):
        load(genai_folder, threads=0)


def test_what_kind_of_folder_it_is(tmp_path: Path) -> None:
    assert export_kind(tmp_path / "absent") is None
    assert export_kind(tmp_path) is None
    (tmp_path / "manifest.json").write_text('{"kind": "onnx"}')
    assert export_kind(tmp_path) == "onnx"
    (tmp_path / "genai_config.json").write_text("")
    assert export_kind(tmp_path) == "genai"
    (tmp_path / "genai_config.json").unlink()
    (tmp_path / "manifest.json").write_text('{"kind": "finetune"}')
    assert export_kind(tmp_path) is None
