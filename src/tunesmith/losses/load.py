"""From ``--loss`` and ``--loss_kwargs`` to a module: a known name, or a class in a file of the user's."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from tunesmith.errors import UsageError, nearest
from tunesmith.losses import LOSSES
from tunesmith.user_code import run_file, split_name


def load_loss(name: str, kwargs: Mapping[str, Any] | None = None) -> nn.Module:
    """Return the loss ``name`` made with ``kwargs``.

    Args:
        name: a name in :data:`LOSSES`, or ``FILE.py:NAME`` with NAME a subclass of ``torch.nn.Module``. The file's code is run.
        kwargs: arguments of its constructor.

    Raises:
        UsageError: when it isn't found, is no module, or can't be made with these arguments.
    """
    made: Any = _from_file(name) if is_file(name) else LOSSES.load(name)
    try:
        module = made(**(kwargs or {}))
    except UsageError:
        raise
    except TypeError as error:
        fix = f"It takes {inspect.signature(made)}."
        raise UsageError(f"--loss {name} can't be made with --loss_kwargs {_spell(kwargs)}: {error}", fix=fix) from error
    except Exception as error:  # the user's own code may raise anything
        raise UsageError(f"--loss {name} can't be made: {type(error).__name__}: {error}") from error
    assert isinstance(module, nn.Module)
    return module


def is_file(name: str) -> bool:
    """Whether a loss is named as ``FILE.py:NAME`` (or ``FILE.py`` by mistake)."""
    return ".py:" in name or name.endswith(".py")


def _from_file(name: str) -> type[nn.Module]:
    path, attribute = split_name(name)
    module = run_file(Path(path).expanduser(), f"--loss {name}", fix="Write FILE.py:NAME.")
    classes = [known for known, value in vars(module).items() if inspect.isclass(value) and issubclass(value, nn.Module)]
    found = getattr(module, attribute, None) if attribute else None
    if inspect.isclass(found) and issubclass(found, nn.Module):
        return found
    here = f"it has: {', '.join(classes)}" if classes else "it has none"
    what = "is no subclass of torch.nn.Module" if found is not None else "is not in it"
    message = f"--loss {name}: {attribute} {what}; {here}" if attribute else f"--loss {name} names no module of the file; {here}"
    raise UsageError(message, fix=nearest(attribute, classes) or "Write FILE.py:NAME.")


def _spell(kwargs: Mapping[str, Any] | None) -> str:
    return ",".join(f"{key}={value}" for key, value in (kwargs or {}).items()) or "(none)"
