"""Every command and program that the README and the pages of docs/ show, run in a clean folder.

What is run is what stands there; only the names of models are replaced by a tiny one, so that it takes seconds. A block that can't be run
says why in a comment in front of it: ``<!-- not run: reason -->``.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tunesmith.data.samples import sample_rows

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"(<!-- not run: .+? -->\n)?```(bash|python)\n(.*?)```", re.DOTALL)

# What `tunesmith` and `python` are while a page is run: the same programs with a tiny default model and with hub ids that lead to it.
PROGRAM = """
import runpy, sys
import tunesmith.models.sources as sources

tiny, found = {tiny!r}, sources.resolve_model
sources.DEFAULT_MODEL = tiny

def resolve_model(name=None, **options):
    return found(tiny if name is not None and name.startswith(("meta-llama/", "microsoft/", "sample:")) else name, **options)

sources.resolve_model = resolve_model
if sys.argv[1] == "tunesmith":
    from tunesmith.cli.main import main
    sys.exit(main(sys.argv[2:]))
runpy.run_path(sys.argv[2], run_name="__main__")
"""


def blocks(page: Path) -> list[tuple[str, str]]:
    """Language and text of the blocks of a page that are run."""
    return [(match[2], match[3]) for match in BLOCK.finditer(page.read_text(encoding="utf-8")) if not match[1]]


@pytest.fixture
def surroundings(tmp_path: Path, tiny_folder: Path) -> dict[str, str]:
    """A clean folder with data, and the programs on the path."""
    rows = [row for row in sample_rows("tones") if len(row["phrase"]) < 80]  # the tiny model's context is 256 tokens of two letters
    for name, chosen in (("data.jsonl", rows[:60]), ("test.jsonl", rows[60:65])):
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in chosen))
    programs = tmp_path / ".programs"
    programs.mkdir()
    (programs / "program.py").write_text(PROGRAM.format(tiny=str(tiny_folder)))
    for name in ("tunesmith", "python"):
        script = programs / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{programs / "program.py"}" {name} "$@"\n')
        script.chmod(0o755)
    return {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "HF_HUB_OFFLINE": "1"}


@pytest.mark.skipif(sys.platform == "win32", reason="the pages show commands for a POSIX shell")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_page_runs(page: Path, tmp_path: Path, surroundings: dict[str, str]) -> None:
    for number, (language, text) in enumerate(blocks(page)):
        script = tmp_path / f".block{number}.{'sh' if language == 'bash' else 'py'}"
        carried = "" if language == "bash" or number == 0 else earlier_programs(page, number)
        script.write_text(carried + text, encoding="utf-8")
        command = ["bash", "-eu", str(script)] if language == "bash" else ["python", str(script)]
        done = subprocess.run(
            command, cwd=tmp_path, env=surroundings, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=500
        )
        assert done.returncode == 0, f"{page.name}, block {number + 1}:\n{text}\n{done.stdout}\n{done.stderr}"


def earlier_programs(page: Path, number: int) -> str:
    """Names that later Python blocks of a page go on with; what they made is on disk, so they load it instead of making it again."""
    text = "".join(text for language, text in blocks(page)[:number] if language == "python")
    names = {"tunesmith": "import tunesmith\n", "model": 'model = tunesmith.load("tones")\n'}
    return "".join(
        line for name, line in names.items() if re.search(rf"^(import )?{name}\b", text, re.MULTILINE) and page.name == "python.md"
    )


def test_every_page_is_looked_at() -> None:
    assert {"README.md", "data.md", "methods.md", "output.md", "python.md"} <= {page.name for page in PAGES}
    assert sum(len(blocks(page)) for page in PAGES) >= 10


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    targets = [target for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text) if not target.startswith("http")]
    missing = [target for target in targets if not (page.parent / target).exists()]
    assert not missing
