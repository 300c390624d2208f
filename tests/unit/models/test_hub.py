"""Hub models: fetched in part, from the cache when offline, and every refusal in words."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from huggingface_hub import constants

from fake_hub import COMMIT, FakeHub
from tunesmith.errors import ModelError
from tunesmith.models.load import load_model, load_tokenizer
from tunesmith.models.sources import resolve_model


def put_in_cache(cache: Path, name: str, folder: Path, *, without: tuple[str, ...] = ()) -> Path:
    """Lay a folder out as huggingface_hub does after a download: refs, snapshots, blobs."""
    repository = cache / f"models--{name.replace('/', '--')}"
    snapshot = repository / "snapshots" / COMMIT
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    (repository / "refs" / "v1").write_text(COMMIT)
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    for number, file in enumerate(file for file in sorted(folder.iterdir()) if file.name not in without):
        blob = repository / "blobs" / f"{number:040d}"
        shutil.copyfile(file, blob)
        (snapshot / file.name).symlink_to(blob)
    return snapshot


def refused(name: str, **options: str) -> str:
    with pytest.raises(ModelError) as caught:
        resolve_model(name, **options)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_cached_model_loads_offline(hub_cache: Path, llama_folder: Path) -> None:
    snapshot = put_in_cache(hub_cache, "someone/tiny", llama_folder)
    source = resolve_model("someone/tiny")
    assert (source.kind, source.path, source.revision) == ("hub", snapshot, COMMIT)
    assert load_model(source, dtype="float32").num_parameters() > 0
    assert len(load_tokenizer(source)) == 384


def test_revision_is_found_in_the_cache(hub_cache: Path, llama_folder: Path) -> None:
    put_in_cache(hub_cache, "someone/tiny", llama_folder)
    assert resolve_model("someone/tiny", revision="v1").revision == COMMIT
    assert resolve_model("someone/tiny", revision=COMMIT).revision == COMMIT
    assert "lacks someone/tiny, revision v2" in refused("someone/tiny", revision="v2")


def test_offline_and_not_cached(hub_cache: Path) -> None:
    text = refused("someone/absent")
    assert "no folder someone/absent" in text
    assert str(hub_cache) in text
    assert "HF_HUB_OFFLINE" in text


def test_weights_missing_in_the_cache(hub_cache: Path, llama_folder: Path) -> None:
    put_in_cache(hub_cache, "someone/tiny", llama_folder, without=("model.safetensors",))
    source = resolve_model("someone/tiny")
    with pytest.raises(ModelError, match=r"lacks the weights of someone/tiny \(commit c0ffee00\)"):
        load_model(source)


def test_no_network(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # the discard port: nobody listens
    text = refused("someone/absent")
    assert "the hub can't be reached" in text
    assert "go online once" in text


def test_only_what_is_needed_is_fetched(fake_hub: FakeHub, llama_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "repository"
    shutil.copytree(llama_folder, folder)
    (folder / "pytorch_model.bin").write_bytes(b"the same weights, pickled")
    (folder / "picture.png").write_bytes(b"a picture")
    fake_hub.repositories["someone/tiny"] = folder
    source = resolve_model("someone/tiny")
    assert not (source.path / "model.safetensors").exists()
    assert load_model(source, dtype="float32").num_parameters() > 0
    assert (source.path / "model.safetensors").exists()
    assert not any("pytorch_model" in request or "picture" in request for request in fake_hub.requests)


def test_pickled_weights_are_fetched_where_there_are_no_others(fake_hub: FakeHub, llama_folder: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    folder = tmp_path / "repository"
    shutil.copytree(llama_folder, folder)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    fake_hub.repositories["someone/old"] = folder
    assert load_model(resolve_model("someone/old"), dtype="float32").num_parameters() > 0


def test_private_model_wants_a_token(fake_hub: FakeHub, llama_folder: Path) -> None:
    fake_hub.repositories["someone/secret"] = llama_folder
    fake_hub.private.add("someone/secret")
    text = refused("someone/secret")
    assert "no model of that name on the hub that you may see" in text
    assert "--token" in text
    source = resolve_model("someone/secret", token="good token")
    assert load_model(source, dtype="float32").num_parameters() > 0
    assert "good token" not in repr(source)


def test_gated_model_says_where_to_ask(fake_hub: FakeHub, llama_folder: Path) -> None:
    fake_hub.repositories["someone/gated"] = llama_folder
    fake_hub.gated.add("someone/gated")
    assert "Accept its terms at https://huggingface.co/someone/gated" in refused("someone/gated")


def test_unknown_revision(fake_hub: FakeHub, llama_folder: Path) -> None:
    fake_hub.repositories["someone/tiny"] = llama_folder
    assert "has no revision 'v9'" in refused("someone/tiny", revision="v9")


def test_repository_without_config(fake_hub: FakeHub, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "README.md").write_text("nothing else")
    fake_hub.repositories["someone/empty"] = tmp_path / "empty"
    assert "has no config.json" in refused("someone/empty")


def test_nothing_of_the_client_reaches_the_user(fake_hub: FakeHub, llama_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    fake_hub.repositories["someone/tiny"] = llama_folder
    load_model(resolve_model("someone/tiny"), dtype="float32")
    assert capfd.readouterr() == ("", "")
