"""``sample:stdlib-modules``: which package of the standard library does this docstring come from? Columns ``text`` and ``label``."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from tunesmith.data.samples.stdlib_source import in_hash_order, parse_files, python_files, standard_library

# Label -> where its source is, first one that exists. Packages that some distributions split off (tkinter, idlelib) or that left
# between 3.10 and 3.13 (distutils, asyncore) are not here; decimal and datetime keep their Python source beside the C one.
PACKAGES: dict[str, tuple[str, ...]] = {
    "asyncio": ("asyncio",),
    "datetime": ("_pydatetime.py", "datetime.py"),
    "decimal": ("_pydecimal.py",),
    "email": ("email",),
    "http": ("http",),
    "importlib": ("importlib",),
    "ipaddress": ("ipaddress.py",),
    "logging": ("logging",),
    "mailbox": ("mailbox.py",),
    "multiprocessing": ("multiprocessing",),
    "tarfile": ("tarfile.py",),
    "unittest": ("unittest",),
    "urllib": ("urllib",),
    "xml": ("xml",),
}
BLANK = "___"
MIN_WORDS, MAX_WORDS = 4, 80


def module_rows() -> list[dict[str, str]]:
    """Return one row for each documented function and class: the first paragraph of its docstring, and its package.

    The package's own name is blanked out of the text. A text that stands in two places is kept once, one that stands in two packages is
    left out.

    Raises:
        DataError: when this Python comes without the source of its standard library.
    """
    labels: dict[str, set[str]] = {}
    texts: dict[str, str] = {}
    for label in PACKAGES:
        for text in _paragraphs(label):
            key = " ".join(re.findall(r"\w+", text.lower()))
            texts.setdefault(key, text)
            labels.setdefault(key, set()).add(label)
    rows = [{"text": text, "label": next(iter(labels[key]))} for key, text in texts.items() if len(labels[key]) == 1]
    return in_hash_order(rows, by="text")


def _paragraphs(label: str) -> Iterator[str]:
    root = standard_library()
    top = next((root / name for name in PACKAGES[label] if (root / name).exists()), None)
    if top is None:
        return
    for source in parse_files(python_files(top), root=root):
        for node in source.definitions():
            text = _first_paragraph(ast.get_docstring(node) or "", label)
            if MIN_WORDS <= len(text.split()) <= MAX_WORDS:
                yield text


def _first_paragraph(docstring: str, label: str) -> str:
    """Return the first paragraph on one line, with the label blanked even inside longer words (``DecimalTuple``, ``https``)."""
    paragraph = re.split(r"\n\s*\n", docstring.strip(), maxsplit=1)[0]
    if paragraph.startswith(">>>"):
        return ""
    return re.sub(f"{re.escape(label)}s?", BLANK, " ".join(paragraph.split()), flags=re.IGNORECASE)
