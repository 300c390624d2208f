"""What names a model, and what is said about things that are not one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from tunesmith.artifact import Manifest, write_manifest
from tunesmith.errors import ModelError, UsageError
from tunesmith.models.save import place_model
from tunesmith.models.sources import resolve_model


@pytest.fixture
def folder(llama_folder: Path, tmp_path: Path) -> Path:
    """A copy of a whole model, to be broken."""
    return shutil.copytree(llama_folder, tmp_path / "model")


def refused(name: str | Path) -> str:
    with pytest.raises(ModelError) as caught:
        resolve_model(name)
    text = str(caught.value)
    assert "\n" not in text
    assert caught.value.fix
    return text


def test_folder(folder: Path) -> None:
    source = resolve_model(folder)
    assert (source.kind, source.folder, source.adapter) == ("folder", folder, None)


def test_home_is_expanded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder.parent))
    monkeypatch.setenv("USERPROFILE", str(folder.parent))
    assert resolve_model("~/model").folder == folder


def test_run(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    place_model(folder, run / "model")
    (run / "adapter").mkdir()
    write_manifest(run, Manifest(kind="finetune"))
    source = resolve_model(run)
    assert (source.kind, source.folder, source.adapter) == ("run", run / "model", run / "adapter")


def test_run_whose_base_model_is_gone(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    place_model(folder, run / "model")
    write_manifest(run, Manifest(kind="finetune"))
    shutil.rmtree(folder)
    assert f"is a link to {folder / 'model.safetensors'}, which is gone" in refused(run)


def test_run_without_model(tmp_path: Path) -> None:
    write_manifest(tmp_path, Manifest(kind="finetune"))
    assert "has no model/ folder any more" in refused(tmp_path)


def test_revision_of_a_folder(folder: Path) -> None:
    with pytest.raises(UsageError, match="--revision names a version of a model on the hub"):
        resolve_model(folder, revision="main")


def test_missing_folder_names_a_neighbour(folder: Path) -> None:
    assert f"Do you mean {folder}?" in refused(folder.parent / "modle")
    assert f"The folder {folder.parent / 'absent'} does not exist" in refused(folder.parent / "absent" / "model")


def test_missing_gguf_file(tmp_path: Path) -> None:
    assert "there is no model file absent.gguf" in refused("absent.gguf")


@pytest.mark.parametrize("name", ["", "  "])
def test_empty_name(name: str) -> None:
    assert "the name of the model is empty" in refused(name)


def test_unknown_sample() -> None:
    assert "there is no sample model 'smollm2'; there is: sample:smollm2-135m" in refused("sample:smollm2")


def test_folder_without_config(tmp_path: Path) -> None:
    assert "has no config.json, so it is not a model" in refused(tmp_path)


def test_folder_around_a_model(folder: Path) -> None:
    assert f"Do you mean {folder}?" in refused(folder.parent)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '"llama"'])
def test_broken_config(folder: Path, content: str) -> None:
    (folder / "config.json").write_text(content)
    assert "config.json" in refused(folder)


def test_adapter_alone(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "someone/base"}))
    text = refused(tmp_path)
    assert "holds an adapter, not a model" in text
    assert f"Give its base model, someone/base, and pass the adapter as --adapter_path {tmp_path}" in text


def test_onnx_folder(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model.onnx")
    assert "holds an ONNX model, which can be run but not trained" in refused(folder)
    (folder / "config.json").rename(folder / "genai_config.json")
    assert "Give the model that it was exported from" in refused(folder)


def test_folder_around_a_gguf_file(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    assert f"Give the file: {tmp_path / 'm.gguf'}" in refused(tmp_path)


def test_no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert "has no weights (model.safetensors)" in refused(folder)
    (folder / "tf_model.h5").touch()
    assert "has its weights only in TensorFlow format (tf_model.h5)" in refused(folder)


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_truncated_weights(folder: Path, kept: int) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:kept])
    assert "cut off" in refused(folder)


def test_missing_shard(folder: Path) -> None:
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    save_file({"a": np.zeros(1, np.float32)}, folder / names[0])
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": names[0], "b": names[1]}}))
    assert f"1 of 2 weight files are missing: {names[1]}" in refused(folder)


def test_broken_index(folder: Path) -> None:
    (folder / "model.safetensors.index.json").write_text("[]")
    assert "model.safetensors.index.json can't be read" in refused(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "model.gguf"])
def test_git_lfs_pointer(folder: Path, name: str) -> None:
    (folder / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    assert "is a Git LFS pointer" in refused(folder if name == "model.safetensors" else folder / name)


def test_weights_file_instead_of_its_folder(folder: Path) -> None:
    text = refused(folder / "model.safetensors")
    assert "is not a GGUF file" in text
    assert "Give the folder that it is in" in text


def test_broken_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text("{")
    assert "manifest.json is not a manifest that can be read" in refused(folder)
