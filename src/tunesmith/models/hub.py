"""Models on the Hugging Face hub: only the files that are needed, from the cache where they are there, with errors in words."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from tunesmith.artifact import naming_full_disk
from tunesmith.errors import ModelError
from tunesmith.models.quiet import quiet_libraries

log = logging.getLogger(__name__)

_SETTINGS = ("*.json", "*.txt", "*.model", "*.jinja", "*.py", "*.tiktoken")
#: Safetensors where there are any; pickles only otherwise. The first pattern of each finds what the second only lists.
_WEIGHTS = (("model*.safetensors", "model.safetensors.index.json"), ("pytorch_model*.bin", "pytorch_model.bin.index.json"))


def fetch_settings(name: str, *, revision: str | None = None, token: str | None = None) -> Path:
    """Return the snapshot folder of a hub model with its configuration and tokenizer in it; its name is the commit.

    Args:
        name: id on the hub, ``owner/name``.
        revision: branch, tag or commit; the main branch when ``None``.
        token: for a private or gated model; otherwise the one that ``hf auth login`` stored.

    Raises:
        ModelError: when there is no such model or revision, it is private or gated, or the hub can't be reached and it is not cached.
    """
    return _snapshot(name, revision, token, _SETTINGS)


def fetch_weights(name: str, snapshot: Path, *, token: str | None = None) -> None:
    """Complete ``snapshot`` of hub model ``name`` with its weights.

    Raises:
        ModelError: as :func:`fetch_settings`, and when the hub has no weights of a kind that can be read.
        OutputError: when the disk is full.
    """
    if not any(any(snapshot.glob(patterns[0])) for patterns in _WEIGHTS):
        log.info("Fetching the weights of %s from the hub.", name)
    for patterns in _WEIGHTS:
        with naming_full_disk(snapshot):
            _snapshot(name, snapshot.name, token, patterns)
        if any(snapshot.glob(patterns[0])):
            return
    if _is_offline():
        raise _not_cached(name, f"the weights of {name} (commit {snapshot.name[:8]})")


def _snapshot(name: str, revision: str | None, token: str | None, patterns: tuple[str, ...]) -> Path:
    from huggingface_hub import snapshot_download

    try:
        # a download of gigabytes needs a sign of life: the hub's own bar, where somebody watches
        with quiet_libraries(bars=sys.stderr.isatty()):
            found = snapshot_download(name, revision=revision, token=token, allow_patterns=list(patterns), ignore_patterns=["*/*"])
    except Exception as error:  # the client raises its own types, its HTTP library's and the system's
        partial = getattr(error, "snapshot_path", None)
        if partial is None:
            raise _in_words(name, revision, error) from error
        found = partial  # offline, and a file that we may not need is missing: who opens it will tell
    return Path(found)


def _in_words(name: str, revision: str | None, error: Exception) -> Exception:
    from huggingface_hub import errors

    if isinstance(error, errors.HFValidationError):
        return ModelError(f"'{name}' is neither a folder or file here nor an id on the hub", fix="Check the spelling of the path")
    if isinstance(error, errors.GatedRepoError):
        fix = f"Accept its terms at https://huggingface.co/{name}, then log in with `hf auth login` or pass --token"
        return ModelError(f"the model {name} is gated: its owner grants access", fix=fix)
    if isinstance(error, errors.RepositoryNotFoundError):
        fix = "Check the spelling; for a private model log in with `hf auth login` or pass --token"
        return ModelError(f"there is no folder {name} here, and no model of that name on the hub that you may see", fix=fix)
    if isinstance(error, errors.RevisionNotFoundError):
        return ModelError(f"the model {name} has no revision '{revision}'", fix=f"See https://huggingface.co/{name}/commits/main")
    if isinstance(error, errors.LocalEntryNotFoundError):
        return _not_cached(name, f"{name}, revision {revision}" if revision else name)
    if isinstance(error, OSError) and error.errno is not None:
        return error  # the disk, not the hub
    status = getattr(getattr(error, "response", None), "status_code", None)
    fix = "Check the token that --token or `hf auth login` gave" if status in (401, 403) else "Try again later"
    return ModelError(f"the hub gave no access to {name}: {str(error).strip().splitlines()[0]}", fix=fix)


def _not_cached(name: str, what: str) -> ModelError:
    from huggingface_hub import constants

    where = f"there is no folder {name} here, and the hub's cache ({constants.HF_HUB_CACHE}) lacks {what}"
    if _is_offline():
        return ModelError(f"{where}; HF_HUB_OFFLINE forbids to look further", fix="Give a folder, or set HF_HUB_OFFLINE=0 to go online")
    return ModelError(f"{where}; the hub can't be reached", fix="Give a folder, or go online once: then it works from the cache")


def _is_offline() -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)
