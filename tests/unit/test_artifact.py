"""Folders appear whole or not at all, nothing of the user's is removed, and a manifest keeps what it is told."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tunesmith import artifact
from tunesmith.artifact import Manifest
from tunesmith.errors import ModelError, OutputError

FULL = Manifest(
    kind="finetune",
    task="text-generation",
    method="lora",
    base="someone/base",
    parent_hash="ab",
    data_hash="cd",
    template={"kind": "chat"},
    stop_tokens=("<|im_end|>",),
    versions={"torch": "2"},
    seed=0,
    grid={"bits": 4},
    options={"learning_rate": {"value": 1e-3, "source": "command line"}},
    metrics={"loss": 0.5},
    extra={"from_the_future": [1]},
)


def test_manifest_survives_the_file(tmp_path: Path) -> None:
    artifact.write_manifest(tmp_path, FULL)
    assert artifact.read_manifest(tmp_path) == FULL
    assert json.loads((tmp_path / "manifest.json").read_text())["from_the_future"] == [1]


def test_no_manifest(tmp_path: Path) -> None:
    assert artifact.read_manifest(tmp_path) is None


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"kind": 1}', '{"kind": "model", "template": []}', "\xff"])
def test_broken_manifest(tmp_path: Path, content: str) -> None:
    (tmp_path / "manifest.json").write_text(content, encoding="latin-1")
    with pytest.raises(ModelError, match=r"manifest\.json is not a manifest that can be read"):
        artifact.read_manifest(tmp_path)


def test_versions_of_what_is_installed() -> None:
    versions = artifact.installed_versions()
    assert {"python", "tunesmith", "torch", "transformers"} <= set(versions)


def test_hash_of_a_file_is_sha256(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    assert artifact.hash_file(tmp_path / "file") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_hash_of_a_folder_sees_the_model_only(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "model.safetensors").write_bytes(b"weights")
    (model / "config.json").write_text("{}")
    before = artifact.hash_folder(model)
    (model / "README.md").write_text("words")
    (model / "manifest.json").write_text("{}")
    assert artifact.hash_folder(model) == before
    assert artifact.hash_folder(model.rename(tmp_path / "elsewhere")) == before
    model = tmp_path / "elsewhere"
    (model / "config.json").write_text("{ }")
    changed = artifact.hash_folder(model)
    (model / "config.json").rename(model / "other.json")
    assert len({before, changed, artifact.hash_folder(model)}) == 3


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_folder_appears_when_whole(tmp_path: Path) -> None:
    final = tmp_path / "a" / "out"
    with artifact.new_folder(final) as folder:
        (folder / "file").write_text("x")
        assert not final.exists()
        assert folder.parent == final.parent
        assert folder.name.startswith(".")
    assert names(final) == ["file"]
    assert names(final.parent) == ["out"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_folder_vanishes_on_error(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), artifact.new_folder(tmp_path / "out") as folder:
        write_and_raise(folder, error)
    assert names(tmp_path) == []


def write_and_raise(folder: Path, error: type[BaseException]) -> None:
    (folder / "file").write_text("half")
    raise error


def make_ours(folder: Path) -> Path:
    folder.mkdir()
    (folder / "old").write_text("old")
    artifact.write_manifest(folder, Manifest(kind="model"))
    return folder


def test_overwriting_replaces_when_whole(tmp_path: Path) -> None:
    out = make_ours(tmp_path / "out")
    with artifact.new_folder(out, overwrite=True) as folder:
        (folder / "new").write_text("new")
        assert names(out) == ["manifest.json", "old"]
    assert names(out) == ["new"]
    assert names(tmp_path) == ["out"]


def test_overwriting_keeps_the_old_on_error(tmp_path: Path) -> None:
    out = make_ours(tmp_path / "out")
    with pytest.raises(ZeroDivisionError), artifact.new_folder(out, overwrite=True) as folder:
        write_and_raise(folder, ZeroDivisionError)
    assert names(out) == ["manifest.json", "old"]
    assert names(tmp_path) == ["out"]


def test_old_folder_returns_when_the_swap_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, replace = make_ours(tmp_path / "out"), os.replace

    def fail_for_the_new(source: Path, target: Path) -> None:
        if Path(source, "new").exists():
            raise PermissionError("no")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail_for_the_new)
    with pytest.raises(PermissionError), artifact.new_folder(out, overwrite=True) as folder:
        (folder / "new").touch()
    assert names(out) == ["manifest.json", "old"]
    assert names(tmp_path) == ["out"]


def test_part_of_a_run_is_replaced_whatever_it_holds(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "old").touch()
    with artifact.new_folder(tmp_path / "model", part_of_run=True) as folder:
        (folder / "new").touch()
    assert names(tmp_path / "model") == ["new"]


def test_existing_folder_is_refused(tmp_path: Path) -> None:
    out = make_ours(tmp_path / "out")
    with pytest.raises(OutputError, match=r"exists and is not empty.*--overwrite"), artifact.new_folder(out):
        pytest.fail("must not begin")


def test_folder_that_another_process_made_meanwhile_is_kept(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="exists and is not empty"), artifact.new_folder(tmp_path / "out"):
        make_ours(tmp_path / "out")
    assert names(tmp_path / "out") == ["manifest.json", "old"]
    assert names(tmp_path) == ["out"]


def test_empty_folder_is_used(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with artifact.new_folder(tmp_path / "out") as folder:
        (folder / "new").touch()
    assert names(tmp_path / "out") == ["new"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
def test_files_are_readable_as_the_users_own_are(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    with artifact.new_folder(tmp_path / "out") as folder:
        (folder / "private").write_text("")
        (folder / "private").chmod(0o600)
    assert (tmp_path / "out" / "private").stat().st_mode == (tmp_path / "plain").stat().st_mode


def no_space() -> OSError:
    return OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("error", [no_space(), RuntimeError("I/O error: No space left on device (os error 28)")])
def test_full_disk_is_named(tmp_path: Path, error: Exception) -> None:
    with (
        pytest.raises(OutputError, match=r"the disk is full: .*out could not be written, .* GiB are free there"),
        artifact.new_folder(tmp_path / "out"),
    ):
        raise error
    assert names(tmp_path) == []


def test_other_errors_pass_a_full_disk_check() -> None:
    with pytest.raises(FileNotFoundError), artifact.naming_full_disk(Path("x")):
        raise FileNotFoundError(errno.ENOENT, "no such file")


def test_atomic_file(tmp_path: Path) -> None:
    file = tmp_path / "file"
    artifact.write_file_atomically(file, "grün")
    assert file.read_bytes() == "grün".encode()
    artifact.write_file_atomically(file, b"\0")
    assert file.read_bytes() == b"\0"
    assert names(tmp_path) == ["file"]


def test_atomic_file_keeps_the_old_content_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("old")

    def fail(descriptor: int) -> None:
        raise no_space()

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OutputError, match="the disk is full"):
        artifact.write_file_atomically(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_atomic_file_in_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="can't be written"):
        artifact.write_file_atomically(tmp_path / "absent" / "file", "x")


def test_new_output_folder_is_fine(tmp_path: Path) -> None:
    artifact.check_output_folder(tmp_path / "a" / "b")
    assert names(tmp_path) == []


def refused(path: Path, **options: bool | int) -> str:
    with pytest.raises(OutputError) as caught:
        artifact.check_output_folder(path, **options)  # type: ignore[arg-type]
    assert caught.value.fix
    return str(caught.value)


def test_output_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "is a file" in refused(tmp_path / "file", overwrite=True)
    assert f"{tmp_path / 'file'} is a file" in refused(tmp_path / "file" / "out")


def test_output_that_is_not_empty(tmp_path: Path) -> None:
    out = make_ours(tmp_path / "out")
    assert "--overwrite to replace it" in refused(out)
    assert "--resume" not in refused(out)
    (out / "checkpoints").mkdir()
    assert "--resume to go on with it" in refused(out)
    artifact.check_output_folder(out, overwrite=True)
    artifact.check_output_folder(out, resume=True)


def test_overwrite_removes_nothing_of_the_users(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    assert "holds other things (thesis.tex …)" in refused(tmp_path, overwrite=True)
    assert "--overwrite" not in refused(tmp_path)


def test_overwrite_never_removes_where_we_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = make_ours(tmp_path / "out")
    (out / "inner").mkdir()
    monkeypatch.chdir(out / "inner")
    assert "--overwrite only replaces" in refused(out, overwrite=True)


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    folder.chmod(0o500)
    try:
        yield
    finally:
        folder.chmod(0o700)


@pytest.mark.skipif(os.name == "nt" or not hasattr(os, "geteuid") or os.geteuid() == 0, reason="needs a user whom permissions bind")
def test_read_only_parent(tmp_path: Path) -> None:
    with read_only(tmp_path):
        assert "no permission in" in refused(tmp_path / "out")


def test_parent_that_may_not_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert f"no permission in {tmp_path}" in refused(tmp_path / "out")


def test_too_little_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(2**40, 2**39, 2**30))
    artifact.check_output_folder(tmp_path / "out", needed_bytes=2**30)
    assert "needs about 3.0 GiB, but only 1.0 GiB are free" in refused(tmp_path / "out", needed_bytes=3 * 2**30)
