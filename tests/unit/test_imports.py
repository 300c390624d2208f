"""The house's import rule (who may import whom), held by walking every file; and a cheap ``import tunesmith``."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src" / "tunesmith"
HEAVY = ("torch", "transformers", "datasets", "onnxruntime", "peft", "numpy")
# "" is the package itself: its version
GROUND = {"", "errors", "registry", "artifact", "cache", "hardware", "config", "callable_room", "run_folder", "json_record", "user_code"}
ROOMS: dict[str, set[str]] = {
    "errors": set(),
    "registry": {"errors"},
    "artifact": {"errors"},
    "cache": {"errors"},
    "hardware": {"errors"},
    "user_code": {"errors"},
    "callable_room": {""},
    "run_folder": set(),
    "json_record": {"errors"},
    "config": GROUND,
    "data": GROUND,
    "models": GROUND,
    "methods": GROUND | {"models"},
    "losses": GROUND,
    "metrics": GROUND,
    "tasks": GROUND | {"data", "models", "losses", "metrics"},
    "runtime": GROUND | {"models", "methods", "data"},
    "train": GROUND | {"data", "models", "methods", "tasks", "losses", "metrics"},
    "evaluate": GROUND | {"data", "models", "runtime", "tasks", "metrics"},
    "report": GROUND | {"data", "evaluate", "export"},
    "export": GROUND | {"data", "models", "methods", "runtime", "metrics", "evaluate"},
    "api": GROUND | {"data", "models", "methods", "runtime", "train", "tasks", "metrics", "evaluate", "report", "export"},
    "cli": GROUND | {"api"},
    "__main__": {"cli"},
    "": {"api"},
}


def for_types_only(tree: ast.Module) -> set[ast.AST]:
    """Everything inside ``if TYPE_CHECKING:``."""
    blocks = [node for node in ast.walk(tree) if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"]
    return {inner for block in blocks for inner in ast.walk(block)}


def rooms_imported(file: Path, *, types: bool = True) -> set[str]:
    """Every room of tunesmith that a file imports from, anywhere in it; ``types``: also what it imports for its annotations alone."""
    tree, modules = ast.parse(file.read_text(encoding="utf-8")), set()
    skipped = set() if types else for_types_only(tree)
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            modules |= {f"{node.module}.{alias.name}" for alias in node.names}
    found = {name.split(".")[1] if "." in name else "" for name in modules if name.split(".")[0] == "tunesmith"}
    return {room if room in ROOMS or (SOURCE / room).exists() else "" for room in found}  # `from tunesmith import __version__`


@pytest.mark.parametrize("file", sorted(SOURCE.rglob("*.py")), ids=lambda file: str(file.relative_to(SOURCE)))
def test_no_arrow_points_back(file: Path) -> None:
    room = file.relative_to(SOURCE).with_suffix("").parts[0].replace("__init__", "")
    assert room in ROOMS, f"{room} is no room of the house: add it to ROOMS with what it may import"
    # the command line prints what api gives it, so it may name those types; they are defined in the rooms
    assert rooms_imported(file, types=room != "cli") <= ROOMS[room] | {room}


def test_an_arrow_that_points_back_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "x.py"
    file.write_text("def f():\n    from tunesmith.train.trainer import Trainer\n    import tunesmith.cli.main\n")
    assert rooms_imported(file) == {"train", "cli"}
    file.write_text("from tunesmith import api, __version__\nif TYPE_CHECKING:\n    from tunesmith.train import Trainer\n")
    assert rooms_imported(file) == {"api", "", "train"}
    assert rooms_imported(file, types=False) == {"api", ""}


@pytest.mark.parametrize(
    "module", ["tunesmith", "tunesmith.errors", "tunesmith.registry", "tunesmith.artifact", "tunesmith.hardware", "tunesmith.api"]
)
def test_importing_stays_cheap(module: str) -> None:
    code = f"import sys, {module}; print([name for name in {HEAVY} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_public_names() -> None:
    import tunesmith

    assert tunesmith.__all__ == sorted(tunesmith.__all__) == dir(tunesmith)
    assert all(getattr(tunesmith, name) for name in tunesmith.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'finetun'"):
        tunesmith.finetun  # noqa: B018


def test_every_capability_is_in_api() -> None:
    from tunesmith import api

    assert api.__all__ == sorted(api.__all__)
    files = [file for file in (SOURCE / "api").glob("*.py") if file.stem != "__init__"]
    bodies = [ast.parse(file.read_text(encoding="utf-8")).body for file in files]
    functions = {node.name for body in bodies for node in body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")}
    assert functions == set(api.__all__)
    assert not functions & {file.stem for file in files}  # importing a file would put it in the place of the function
