"""No help imports what is heavy: it must be there at once."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tunesmith.cli.main import COMMANDS

HEAVY = ("torch", "transformers", "datasets", "onnxruntime", "numpy", "peft", "pyarrow", "accelerate", "pandas", "rich")


def imported(*words: str, status: int = 0) -> set[str]:
    """Run a command line in a process of its own; return the top-level packages that it imported."""
    code = f"import sys; from tunesmith.cli.main import main; s = main({list(words)!r}); print('|', *sys.modules); sys.exit(s)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    return {name.partition(".")[0] for name in done.stdout.rpartition("| ")[2].split()}


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["help"], []])
def test_the_top_help_needs_not_even_pydantic(words: list[str]) -> None:
    assert not imported(*words) & {*HEAVY, "pydantic", "yaml"}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_imports_nothing_heavy(name: str) -> None:
    assert not imported(name, "--help") & set(HEAVY)


def test_listing_and_refusing_training_arguments_imports_nothing_heavy() -> None:
    assert not imported("finetune", "--help_training") & set(HEAVY)
    assert not imported("finetune", "x", "--learning_rat", "1", "--max_steps", "5", status=2) & set(HEAVY)


def test_importing_tunesmith_imports_nothing_heavy() -> None:
    code = "import sys, tunesmith; print(*sys.modules)"
    names = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {name.partition(".")[0] for name in names} & {*HEAVY, "pydantic"}
