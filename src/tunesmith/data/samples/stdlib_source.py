"""The source of the running Python's standard library, parsed and never imported.

Importing a module to read its docstrings would run it (``import this`` prints, ``import antigravity`` opens a browser); ``ast`` only reads.
"""

from __future__ import annotations

import ast
import hashlib
import sysconfig
import tokenize
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tunesmith.errors import DataError

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True)
class SourceFile:
    """One parsed file: its path relative to the standard library, its lines and its tree."""

    path: str
    lines: tuple[str, ...]
    tree: ast.Module

    def definitions(self) -> list[Definition]:
        """Return every function and class of the file, nested ones too, in the order of their lines."""
        found = [node for node in ast.walk(self.tree) if isinstance(node, Definition)]
        return sorted(found, key=lambda node: (node.lineno, node.col_offset))


def standard_library() -> Path:
    """Return the folder with the standard library's source.

    Raises:
        DataError: when there is none: a zipped Python (Windows' embeddable one), a frozen program, or only compiled files.
    """
    folder = Path(sysconfig.get_path("stdlib"))
    if not (folder / "json" / "decoder.py").is_file():
        raise DataError(
            f"this sample is made from the source of Python's standard library, and there is none in {folder} "
            "(a zipped or frozen Python has only compiled files)",
            fix="Run tunesmith with an ordinary Python installation, or take sample:tones, which needs no source",
        )
    return folder


def python_files(top: Path) -> list[Path]:
    """Return the Python files of one module (a file) or package (a folder, at any depth), sorted, without tests."""
    if top.is_file():
        return [top]
    skipped = {"test", "tests", "idle_test", "__pycache__"}
    return sorted(path for path in top.rglob("*.py") if not skipped & set(path.relative_to(top).parts))


def parse_files(paths: Iterable[Path], *, root: Path) -> Iterator[SourceFile]:
    """Parse files one after the other; one that is no valid Python (templates, deliberately broken files) is passed over."""
    for path in paths:
        try:
            with tokenize.open(path) as file:  # honours the file's own coding line
                text = file.read()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # old escapes such as "\d" are the library's affair
                tree = ast.parse(text)
        except (SyntaxError, UnicodeDecodeError):
            continue
        # Split as Python counts lines: str.splitlines would also break at form feeds, which the library's source contains.
        yield SourceFile(path.relative_to(root).as_posix(), tuple(text.split("\n")), tree)


def in_hash_order(rows: Iterable[dict[str, str]], *, by: str) -> list[dict[str, str]]:
    """Sort rows by the SHA-256 of one column.

    That mixes the packages, so that any slice of the rows looks like the whole, and rows keep their sequence when another Python version
    adds some.
    """
    return sorted(rows, key=lambda row: hashlib.sha256(row[by].encode()).digest())
