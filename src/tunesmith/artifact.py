"""A folder with a manifest that says what it is and where it comes from; written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from tunesmith.errors import ModelError, OutputError

MANIFEST = "manifest.json"
#: What a model consists of; anything else in a model folder (README, logs, pictures) is not part of it.
WEIGHT_SUFFIXES = frozenset({".safetensors", ".bin", ".gguf", ".onnx", ".data"})
SETTING_SUFFIXES = frozenset({".json", ".jinja", ".model", ".txt", ".py", ".tiktoken"})
_NOT_MODEL = frozenset({MANIFEST, "training_args.bin", "optimizer.bin", "scheduler.bin", "trainer_state.json", "requirements.txt"})
#: One of these says that a folder was made by tunesmith, finished or not, so that ``--overwrite`` may remove it.
_OURS = (MANIFEST, "metrics.jsonl", "checkpoints")
_DISK_FULL = frozenset({errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)})
_VERSIONS_OF = ("tunesmith", "torch", "transformers", "peft", "datasets", "tokenizers", "safetensors", "accelerate", "bitsandbytes")


@dataclass(frozen=True)
class Manifest:
    """What an artifact is, what it was made from, and how.

    Attributes:
        kind: ``finetune`` (a run: adapter and base), ``model`` (one plain model) …
        base: the model as the user named it; ``parent_hash`` is :func:`hash_folder` of what that was.
        data_hash: of the training rows.
        template: how rows became text, as ``Template.to_dict()`` gives it; every runtime and export reads it from here.
        grid: the 4-bit grid the frozen base was on while training, if any.
        options: name -> ``{"value": …, "source": where the value came from}``.
        extra: what a newer tunesmith wrote and this one doesn't know; kept when written again.
    """

    kind: str
    task: str | None = None
    method: str | None = None
    base: str | None = None
    parent_hash: str | None = None
    data_hash: str | None = None
    template: Mapping[str, Any] = field(default_factory=dict)
    stop_tokens: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    seed: int | None = None
    grid: Mapping[str, Any] | None = None
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return the manifest as indented JSON."""
        known = {item.name: getattr(self, item.name) for item in fields(self) if item.name != "extra"}
        return json.dumps({**known, **self.extra}, indent=2, ensure_ascii=False, default=str) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Read what :meth:`to_json` wrote.

        Raises:
            ValueError: when it is not JSON, not an object, or names no kind.
        """
        content = json.loads(text)
        if not isinstance(content, dict) or not isinstance(content.get("kind"), str):
            raise ValueError("no kind of artifact is named in it")
        names = {item.name for item in fields(cls)} - {"extra"}
        known = {name: value for name, value in content.items() if name in names}
        wrong = [name for name in ("template", "versions", "options", "metrics") if not isinstance(known.get(name, {}), dict)]
        if wrong:
            raise ValueError(f"{', '.join(wrong)} should hold an object")
        known["stop_tokens"] = tuple(known.get("stop_tokens") or ())
        return cls(**known, extra={name: value for name, value in content.items() if name not in names})


def installed_versions() -> dict[str, str]:
    """Return the versions of Python, tunesmith and the libraries that shape a result, as far as they are installed."""
    found = {"python": platform.python_version()}
    for package in _VERSIONS_OF:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write ``manifest`` into ``folder``, whole or not at all.

    Raises:
        OutputError: when it can't be written.
    """
    write_file_atomically(folder / MANIFEST, manifest.to_json())


def read_manifest(folder: Path) -> Manifest | None:
    """Return the manifest of ``folder``, ``None`` when it has none.

    Raises:
        ModelError: when there is one that can't be read.
    """
    path = folder / MANIFEST
    if not path.is_file():
        return None
    try:
        return Manifest.from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        fix = "Make the artifact again, or restore the file from a copy"
        raise ModelError(f"{path} is not a manifest that can be read: {error}", fix=fix) from error


def model_files(folder: Path) -> list[Path]:
    """Return the files directly in ``folder`` that make up a model or adapter (weights, configuration, tokenizer), sorted by name."""
    suffixes = WEIGHT_SUFFIXES | SETTING_SUFFIXES
    files = (file for file in folder.iterdir() if file.suffix in suffixes and file.name not in _NOT_MODEL and file.is_file())
    return sorted(file for file in files if not file.name.startswith("."))


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file's content as 64 hex digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def hash_folder(path: Path) -> str:
    """Return one SHA-256 over the names and contents of a folder's :func:`model_files`; a link counts as what it points to."""
    digest = hashlib.sha256()
    for file in model_files(path):
        digest.update(f"{file.name}\0{hash_file(file)}\n".encode())
    return digest.hexdigest()


@contextlib.contextmanager
def new_folder(final: Path, *, overwrite: bool = False, part_of_run: bool = False) -> Iterator[Path]:
    """Give an empty hidden folder beside ``final`` to write into; it gets its final name when the block ends well, else it is removed.

    Args:
        final: the folder that is to appear.
        overwrite: replace what has the name; it stays until the new folder is whole.
        part_of_run: ``final`` lies inside a run's folder, where every name is ours: replace it whatever it holds.

    Raises:
        OutputError: when something has the final name already (unless ``overwrite``), when nothing can be written there,
            or when the disk fills up inside the block.
    """
    final = Path(os.path.realpath(final))
    check_output_folder(final, overwrite=overwrite, resume=part_of_run)
    temporary = _make_hidden_sibling(final)
    try:
        with naming_full_disk(final):
            yield temporary
            _give_usual_permissions(temporary)
            check_output_folder(final, overwrite=overwrite, resume=part_of_run)  # again: another process may have been faster
            _swap_in(temporary, final)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_file_atomically(path: Path, content: str | bytes) -> None:
    """Write ``content`` (text as UTF-8) to ``path``: whoever reads it sees the old content or the new one, whole, even after a power cut.

    Raises:
        OutputError: when the folder can't be written, or the disk is full.
    """
    data = content.encode() if isinstance(content, str) else content
    with replaced_when_whole(path) as temporary, open(temporary, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


@contextlib.contextmanager
def replaced_when_whole(path: Path) -> Iterator[Path]:
    """Yield a hidden file beside ``path`` to write; it takes the place of ``path`` when the block ends well, and is removed when not.

    Raises:
        OutputError: when the folder can't be written, or the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        with naming_full_disk(path):
            yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError(f"{path} can't be written: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def naming_full_disk(path: Path) -> Iterator[None]:
    """Turn a disk that fills up inside the block into an OutputError that names ``path`` and the space left; other errors pass."""
    try:
        yield
    except Exception as error:
        # safetensors and others written in Rust raise their own type; the system's words are all that is left of the number
        full = isinstance(error, OSError) and error.errno in _DISK_FULL
        if not full and "No space left on device" not in str(error):
            raise
        message = f"the disk is full: {path} could not be written, {_gib(free_bytes(path))} are free there"
        raise OutputError(message, fix="Free some space, or choose another folder") from error


def check_output_folder(path: Path, *, overwrite: bool = False, resume: bool = False, needed_bytes: int = 0) -> None:
    """Check, before any work is done, that results can be written to ``path``.

    Args:
        path: the output folder; it need not exist.
        overwrite: an existing one may be replaced, when it is one that tunesmith made.
        resume: an existing one is to be continued.
        needed_bytes: what will be written at least.

    Raises:
        OutputError: when it is not a folder, not empty, not ours to remove, not writable, or the disk is too full.
    """
    if path.exists() and not path.is_dir():
        raise OutputError(f"the output folder {path} is a file", fix="Give another name with --output_path")
    if path.is_dir() and not resume and any(path.iterdir()):
        _check_may_be_replaced(path, overwrite)
    existing = _nearest_existing(path)
    if not existing.is_dir():
        raise OutputError(f"the output folder {path} can't be made: {existing} is a file", fix="Give another name with --output_path")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise OutputError(f"the output folder {path} can't be written: no permission in {existing}", fix="Choose another folder")
    free = free_bytes(path)
    if free < needed_bytes:
        message = f"the output needs about {_gib(needed_bytes)}, but only {_gib(free)} are free at {existing}"
        raise OutputError(message, fix="Free some space, or choose another folder with --output_path")


def free_bytes(path: Path) -> int:
    """Return the bytes that can still be written where ``path`` is, or will be."""
    return shutil.disk_usage(_nearest_existing(path)).free


def _check_may_be_replaced(path: Path, overwrite: bool) -> None:
    ours = any((path / name).exists() for name in _OURS)
    if not overwrite:
        continues = ", or --resume to go on with it" if (path / "checkpoints").exists() else ""
        choice = f"Choose another folder, or --overwrite to replace it{continues}" if ours else "Choose another folder"
        raise OutputError(f"the output folder {path} exists and is not empty", fix=choice)
    here, real = Path.cwd().resolve(), path.resolve()
    if not ours or real == here or real in here.parents:
        found = ", ".join(sorted(entry.name for entry in path.iterdir())[:3])
        message = f"--overwrite only replaces folders that tunesmith made; {path} holds other things ({found} …)"
        raise OutputError(message, fix="Choose another folder, or remove it yourself")


def _nearest_existing(path: Path) -> Path:
    path = Path(os.path.abspath(path))
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def _make_hidden_sibling(final: Path) -> Path:
    temporary = final.with_name(f".{final.name}.{uuid.uuid4().hex[:8]}")
    try:
        temporary.mkdir(parents=True)  # not mkdtemp: the folder is to have the permissions that the user's folders have
    except OSError as error:
        raise OutputError(f"the output folder {final} can't be made: {error.strerror or error}", fix="Choose another folder") from error
    return temporary


def _give_usual_permissions(folder: Path) -> None:
    """Open files that a library made readable for their owner alone (safetensors does) to whoever may read the folder."""
    if os.name == "nt":
        return
    mode = folder.stat().st_mode & 0o666
    for file in folder.rglob("*"):
        if file.is_file() and not file.is_symlink() and file.stat().st_mode & 0o777 == 0o600:
            file.chmod(mode)


def _swap_in(temporary: Path, final: Path) -> None:
    if not final.exists():
        os.replace(temporary, final)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{final.name}.old.", dir=final.parent)) / final.name
    os.replace(final, aside)
    try:
        os.replace(temporary, final)
    except BaseException:
        os.replace(aside, final)
        raise
    finally:
        shutil.rmtree(aside.parent, ignore_errors=True)


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / 2**30:.1f} GiB"
