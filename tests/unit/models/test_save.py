"""Placed models take no space and can't hurt their base; saved ones are what was in memory."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tiny_models import FAMILIES, save_tiny, tiny_model, tiny_tokenizer
from tunesmith.artifact import hash_folder
from tunesmith.errors import ModelError, OutputError
from tunesmith.models.save import place_model, save_plain_model

INPUT = torch.arange(5, 25).view(2, 10)


def forbid(*_: object, **__: object) -> None:
    raise OSError(errno.EPERM, "links are not supported here")


def same_logits(folder: Path, family: str) -> bool:
    with torch.no_grad():
        return torch.equal(AutoModelForCausalLM.from_pretrained(folder)(INPUT).logits, tiny_model(family)(INPUT).logits)


def test_weights_are_links_and_settings_are_copies(llama_folder: Path, tmp_path: Path) -> None:
    assert place_model(llama_folder, tmp_path / "out") == "links"
    assert {file.name for file in (tmp_path / "out").iterdir() if file.is_symlink()} == {"model.safetensors"}
    assert same_logits(tmp_path / "out", "llama")
    assert hash_folder(tmp_path / "out") == hash_folder(llama_folder)


def test_placed_folder_may_be_moved(llama_folder: Path, tmp_path: Path) -> None:
    place_model(llama_folder, tmp_path / "a")
    shutil.move(tmp_path / "a", tmp_path / "deep" / "er")
    assert same_logits(tmp_path / "deep" / "er", "llama")


def test_links_lead_to_the_file_itself(llama_folder: Path, tmp_path: Path) -> None:
    place_model(llama_folder, tmp_path / "first")
    place_model(tmp_path / "first", tmp_path / "second")
    shutil.rmtree(tmp_path / "first")
    assert same_logits(tmp_path / "second", "llama")


def test_saving_into_a_placed_folder_leaves_the_base_alone(llama_folder: Path, tmp_path: Path) -> None:
    before = hash_folder(llama_folder)
    place_model(llama_folder, tmp_path / "out")
    save_plain_model(tiny_model("llama", seed=1), tiny_tokenizer(chat_template="changed"), tmp_path / "out")
    assert hash_folder(llama_folder) == before


@pytest.mark.parametrize("forbidden", [("symlink",), ("symlink", "link")])
def test_without_links(llama_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forbidden: tuple[str, ...]) -> None:
    for name in forbidden:
        monkeypatch.setattr(os, name, forbid)
    assert place_model(llama_folder, tmp_path / "out") == ("copies" if "link" in forbidden else "links")
    assert not any(file.is_symlink() for file in (tmp_path / "out").iterdir())
    assert same_logits(tmp_path / "out", "llama")


def test_what_is_no_part_of_a_model_stays_behind(llama_folder: Path, tmp_path: Path) -> None:
    source = shutil.copytree(llama_folder, tmp_path / "source")
    for name in ("README.md", "manifest.json", "training_args.bin", ".hidden.json"):
        (source / name).touch()
    place_model(source, tmp_path / "out")
    assert {file.name for file in (tmp_path / "out").iterdir()} == {file.name for file in llama_folder.iterdir()}


def test_old_files_are_replaced(llama_folder: Path, tmp_path: Path) -> None:
    save_tiny("llama", tmp_path / "out", seed=1)
    assert place_model(llama_folder, tmp_path / "out") == "links"
    assert same_logits(tmp_path / "out", "llama")


def test_copying_over_a_link_leaves_what_it_leads_to_alone(llama_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = save_tiny("llama", tmp_path / "other", seed=1)
    before = hash_folder(other)
    place_model(other, tmp_path / "out")
    monkeypatch.setattr(os, "symlink", forbid)
    monkeypatch.setattr(os, "link", forbid)
    place_model(llama_folder, tmp_path / "out")
    assert hash_folder(other) == before
    assert same_logits(tmp_path / "out", "llama")


def test_into_itself(llama_folder: Path) -> None:
    with pytest.raises(OutputError, match="can't be placed into its own folder"):
        place_model(llama_folder, llama_folder)


def test_full_disk_while_copying(llama_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", fail)
    with pytest.raises(OutputError, match=r"the disk is full: .*out could not be written, .* GiB are free there"):
        place_model(llama_folder, tmp_path / "out")


@pytest.mark.parametrize("family", FAMILIES)
def test_saved_model_is_the_one_in_memory(family: str, tmp_path: Path) -> None:
    save_plain_model(tiny_model(family), tiny_tokenizer(), tmp_path)
    assert same_logits(tmp_path, family)
    assert (tmp_path / "model.safetensors").is_file()
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded("The train <|im_end|>").input_ids == tiny_tokenizer()("The train <|im_end|>").input_ids
    assert loaded.chat_template == tiny_tokenizer().chat_template


def test_tied_weights_are_saved_once(tmp_path: Path) -> None:
    from safetensors import safe_open

    save_plain_model(tiny_model("smollm"), None, tmp_path)
    with safe_open(tmp_path / "model.safetensors", "pt") as weights:
        assert "lm_head.weight" not in weights.keys()  # noqa: SIM118
    assert json.loads((tmp_path / "config.json").read_text())["tie_word_embeddings"] is True


def test_quantized_weights_are_refused(tmp_path: Path) -> None:
    model = tiny_model("llama")
    model.hf_quantizer = object()
    with pytest.raises(ModelError, match="are quantized"):
        save_plain_model(model, None, tmp_path)


def test_no_bar_reaches_the_user(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    save_plain_model(tiny_model("llama"), tiny_tokenizer(), tmp_path)
    assert capfd.readouterr() == ("", "")
