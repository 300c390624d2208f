"""``sample:stdlib-summaries``: the source of a function, and the first line of its docstring. Columns ``document`` and ``summary``."""

from __future__ import annotations

import ast
from pathlib import Path

from tunesmith.data.samples.stdlib_source import SourceFile, in_hash_order, parse_files, python_files, standard_library

MAX_ROWS = 4000
MAX_CHARACTERS = 1200  # about 350 tokens: short enough to train on two cores
MIN_CODE_LINES = 3  # the line with def, and two more: less leaves nothing to sum up
MIN_WORDS, MAX_WORDS = 4, 25

# Tests, bundled tools, and packages that some distributions split off, so that most people get the same rows.
SKIPPED = frozenset(
    {"site-packages", "dist-packages", "lib-dynload", "test", "tests", "idlelib", "tkinter", "turtle", "turtledemo"}
    | {"lib2to3", "distutils", "ensurepip", "pydoc_data", "encodings"}
)


def summary_rows() -> list[dict[str, str]]:
    """Return documented functions, at most 4,000: their source without the docstring, and its first line.

    No two rows share a document or a summary.

    Raises:
        DataError: when this Python comes without the source of its standard library.
    """
    root = standard_library()
    rows = [row for source in parse_files(_files(root), root=root) for row in _rows_of(source)]
    return _without_repeats(in_hash_order(rows, by="document"))[:MAX_ROWS]


def _files(root: Path) -> list[Path]:
    tops = sorted(path for path in root.iterdir() if path.name.removesuffix(".py") not in SKIPPED and not path.name.startswith("config-"))
    return [file for top in tops if top.is_dir() or top.suffix == ".py" for file in python_files(top)]


def _rows_of(source: SourceFile) -> list[dict[str, str]]:
    rows = []
    for node in source.definitions():
        if isinstance(node, ast.ClassDef):
            continue
        summary = _summary(ast.get_docstring(node) or "")
        document = _source_without_docstring(node, source.lines) if summary else ""
        if document and len(document) <= MAX_CHARACTERS:
            rows.append({"document": document, "summary": summary})
    return rows


def _summary(docstring: str) -> str:
    """Return the first line where it is a whole thought: neither code, nor the torn-off beginning of a longer sentence."""
    first, _, rest = docstring.strip().partition("\n")
    torn = bool(rest.strip()) and not rest.startswith("\n") and not first.rstrip().endswith(".")
    if torn or first.startswith(">>>") or not MIN_WORDS <= len(first.split()) <= MAX_WORDS:
        return ""
    return " ".join(first.split())


def _source_without_docstring(node: ast.FunctionDef | ast.AsyncFunctionDef, lines: tuple[str, ...]) -> str:
    """Return the function's lines at the left margin, with decorators, without docstring and blank lines; empty where no code is left."""
    docstring, *code = node.body
    if not code or docstring.lineno == node.lineno or code[0].lineno <= (docstring.end_lineno or 0):
        return ""
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    kept = [*lines[first - 1 : docstring.lineno - 1], *lines[docstring.end_lineno : node.end_lineno]]
    margin = " " * node.col_offset
    kept = [line.removeprefix(margin).rstrip() for line in kept]
    kept = [line for line in kept if line]
    return "\n".join(kept) if len(kept) >= MIN_CODE_LINES else ""


def _without_repeats(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    seen: set[str] = set()
    kept = []
    for row in rows:
        keys = {row["document"], row["summary"].lower()}
        if not keys & seen:
            kept.append(row)
        seen |= keys
    return kept
