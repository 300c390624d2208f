"""Decoders of every family that the builder is given, tied and untied: in float32 the logits are PyTorch's, number by number; int4 runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tiny_models import CHAT_TEMPLATE, save_tiny, tiny_model, tiny_tokenizer
from tunesmith.errors import DependencyError, ModelError, UsageError
from tunesmith.export import decoder
from tunesmith.export.decoder import build_decoder, check_extra_options
from tunesmith.export.folder import write_extras
from tunesmith.export.plan import Plan, Request, plans_for
from tunesmith.export.source import read_source
from tunesmith.export.targets import DECODERS, choose_target, recipe_for
from tunesmith.runtime.load import load

pytest.importorskip("onnxruntime_genai", reason="needs onnxruntime-genai (extra 'cpu')")

#: onnxruntime's attention takes heads of 16 or a multiple, so the tiny models are a little larger here.
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"hidden_size": 64},
    "smollm": {"hidden_size": 64},
    "mistral": {"hidden_size": 64},
    "phi3": {"hidden_size": 64},
    "qwen2": {"hidden_size": 64},
    "qwen3": {"hidden_size": 64, "head_dim": 16},
    "gemma2": {"hidden_size": 64, "head_dim": 16, "query_pre_attn_scalar": 16},
    "gemma3": {"hidden_size": 64, "head_dim": 16, "query_pre_attn_scalar": 16},
}
ALWAYS_TIED = ("gemma2", "gemma3")
CASES = [(family, tied) for family in FAMILIES for tied in ((True,) if family in ALWAYS_TIED else (True, False))]
TEXT = "The train to the city leaves at seven in the morning. Could you send me the report by Friday? Thank you! " * 2


def export(folder: Path, source: Path, precision: str, **options: Any) -> Path:
    """Export without proof, and return the folder."""
    found = read_source(source)
    plan = plans_for(found, Request(precision=precision, extra_options=options))[0]
    folder.mkdir()
    build_decoder(found, folder, plan.recipe)
    write_extras(found, folder, plan, name=folder.name)
    return folder


@pytest.mark.integration
@pytest.mark.parametrize(("family", "tied"), CASES)
def test_logits_are_pytorchs_and_int4_runs(family: str, tied: bool, tmp_path: Path) -> None:
    changes = {**FAMILIES[family], "tie_word_embeddings": tied}
    source = save_tiny(family, tmp_path / "model", **changes)
    ids = tiny_tokenizer()(TEXT, add_special_tokens=False)["input_ids"]
    assert len(ids) > 32  # beyond the windows of Gemma's local layers
    with torch.inference_mode():
        expected = tiny_model(family, **changes)(torch.tensor([ids])).logits[0].numpy()
    found = next(iter(load(export(tmp_path / "fp32", source, "fp32")).token_logits([ids])))
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1e-3 * np.abs(expected).max()
    int4 = load(export(tmp_path / "int4", source, "int4"))
    answer = int4.generate([TEXT[:40]], max_new_tokens=4)[0]
    assert answer.num_tokens >= 1
    assert np.isfinite(next(iter(int4.token_logits([ids])))).all()


@pytest.mark.integration
def test_every_row_of_the_table_is_built(tmp_path: Path) -> None:
    found = read_source(save_tiny("smollm", tmp_path / "model", hidden_size=64))
    for number, target in enumerate(DECODERS):
        folder = tmp_path / str(number)
        folder.mkdir()
        build_decoder(found, folder, recipe_for("decoder", target))
        config = json.loads((folder / "genai_config.json").read_text(encoding="utf-8"))
        named = config["model"]["decoder"]["session_options"]["provider_options"]
        assert (folder / "model.onnx.data").stat().st_size > 1000, target
        assert bool(named) == (target.device != "cpu"), target


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny("smollm", tmp_path_factory.mktemp("tiny") / "model", hidden_size=64)


def test_generation_stops_where_training_stopped(tiny: Path, tmp_path: Path) -> None:
    folder = export(tmp_path / "out", tiny, "int4")
    config = json.loads((folder / "genai_config.json").read_text(encoding="utf-8"))
    tokenizer = tiny_tokenizer()
    found = read_source(tiny)
    assert config["model"]["eos_token_id"] == found.template.stop_token_ids(tokenizer)[0] == tokenizer.eos_token_id
    assert config["model"]["pad_token_id"] == tokenizer.pad_token_id
    assert (
        json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))["model_max_length"] == config["model"]["context_length"]
    )
    assert (folder / "chat_template.jinja").read_text(encoding="utf-8") == CHAT_TEMPLATE


def test_the_folder_says_what_it_is_and_how_to_run_it(tiny: Path, tmp_path: Path) -> None:
    folder = export(tmp_path / "out", tiny, "int4", block_size=16)
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["kind"] == "onnx"
    assert manifest["parent_hash"] == read_source(tiny).parent_hash
    assert manifest["export"]["recipe"]["options"] == {"execution_provider": "cpu", "block_size": 16}
    assert set(manifest["export"]["model_files"]) == {"model.onnx", "model.onnx.data"}
    foundry = json.loads((folder / "inference_model.json").read_text(encoding="utf-8"))
    assert foundry == {
        "Name": "out",
        "PromptTemplate": {"assistant": "{Content}", "prompt": "<|im_start|>user\n{Content}<|im_end|>\n<|im_start|>assistant\n"},
    }
    readme = (folder / "README.md").read_text(encoding="utf-8")
    assert all(words in readme for words in ("onnxruntime_genai", "using Microsoft.ML.OnnxRuntimeGenAI;", "tunesmith generate -m out"))
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_heads_of_a_size_that_cannot_run_are_refused(tmp_path: Path) -> None:
    source = save_tiny("smollm", tmp_path / "model")
    with pytest.raises(ModelError, match=r"attention heads of size 8, onnxruntime runs multiples of 16"):
        export(tmp_path / "out", source, "int4")


def test_an_architecture_that_the_builder_does_not_know_is_named(tmp_path: Path) -> None:
    source = save_tiny("gpt2", tmp_path / "model")
    with pytest.raises(ModelError, match=r"doesn't know the architecture GPT2LMHeadModel\. Export it for llama\.cpp"):
        export(tmp_path / "out", source, "int4")


def test_what_the_builder_refuses_is_said_in_one_line(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"the model builder refuses: .*use_qdq"):
        export(tmp_path / "out", tiny, "int8", use_qdq=True)


def test_options_that_are_ours_are_refused() -> None:
    with pytest.raises(UsageError, match=r"--extra_options adapter_path is decided by tunesmith itself\. Use --adapter_path"):
        check_extra_options({"adapter_path": "x"})


def test_a_missing_builder_names_the_pip_command(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = decoder.importlib.util.find_spec  # type: ignore[attr-defined]
    monkeypatch.setattr(decoder.importlib.util, "find_spec", lambda name: None if name == "onnxruntime_genai" else real(name))  # type: ignore[attr-defined]
    with pytest.raises(DependencyError, match=r"onnxruntime-genai.*pip install 'tunesmith\[cpu\]'"):
        plans_for(read_source(tiny), Request())


def test_a_plan_by_hand_is_what_the_flow_makes(tiny: Path) -> None:
    source = read_source(tiny)
    assert [plan.target.precision for plan in plans_for(source, Request())] == ["int4", "int8", "fp32"]
    target = choose_target("decoder", precision="int8")
    assert plans_for(source, Request(precision="int8")) == [Plan(target, recipe_for("decoder", target))]
