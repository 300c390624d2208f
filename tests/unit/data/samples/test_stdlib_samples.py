"""The samples made from the standard library: deterministic, without repeats, without the answer in the question."""

from __future__ import annotations

import ast
import subprocess
import sys
import sysconfig
from collections import Counter
from pathlib import Path

import pytest

from tunesmith.data.samples import sample_names, sample_rows
from tunesmith.data.samples.stdlib_modules import PACKAGES
from tunesmith.data.samples.stdlib_source import in_hash_order, parse_files
from tunesmith.data.samples.stdlib_summaries import MAX_CHARACTERS, MAX_ROWS, _rows_of
from tunesmith.errors import DataError, UsageError


@pytest.fixture(scope="module")
def modules() -> list[dict[str, str]]:
    return sample_rows("stdlib-modules")


@pytest.fixture(scope="module")
def summaries() -> list[dict[str, str]]:
    return sample_rows("stdlib-summaries")


def test_names_and_unknown_name() -> None:
    assert {"stdlib-modules", "stdlib-summaries", "tones"} <= set(sample_names())
    with pytest.raises(UsageError, match="Did you mean 'stdlib-modules'"):
        sample_rows("stdlib-module")


def test_modules_every_package_is_well_filled(modules: list[dict[str, str]]) -> None:
    counts = Counter(row["label"] for row in modules)
    assert set(counts) == set(PACKAGES)
    assert min(counts.values()) >= 40


def test_modules_label_is_not_in_the_text(modules: list[dict[str, str]]) -> None:
    assert [row for row in modules if row["label"] in row["text"].lower()] == []


def test_modules_no_text_twice_nor_with_two_labels(modules: list[dict[str, str]]) -> None:
    assert max(Counter(row["text"].lower() for row in modules).values()) == 1


def test_modules_text_of_two_packages_is_left_out_and_repeats_are_kept_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path, docstrings in {
        "json/decoder.py": [],
        "asyncio/locks.py": ["Wait until the asyncio lock is free.", "Release what was acquired.", "Too short."],
        "email/header.py": ["Release what was  acquired.\n\nMore.", "Fold the header line.", "Fold the header line!"],
    }.items():
        (tmp_path / path).parent.mkdir()
        (tmp_path / path).write_text("".join(f"def f{n}():\n    {text!r}\n" for n, text in enumerate(docstrings)))
    monkeypatch.setattr(sysconfig, "get_path", lambda scheme: str(tmp_path))
    rows = sorted(tuple(row.values()) for row in sample_rows("stdlib-modules"))
    assert rows == [("Fold the header line.", "email"), ("Wait until the ___ lock is free.", "asyncio")]


def test_modules_slices_are_mixed(modules: list[dict[str, str]]) -> None:
    assert len({row["label"] for row in modules[:200]}) == len(PACKAGES)


def test_summaries_are_bounded_and_unique(summaries: list[dict[str, str]]) -> None:
    assert 1500 <= len(summaries) <= MAX_ROWS
    assert max(len(row["document"]) for row in summaries) <= MAX_CHARACTERS
    assert len({row["document"] for row in summaries}) == len(summaries) == len({row["summary"].lower() for row in summaries})


def test_summaries_documents_are_functions_without_docstring(summaries: list[dict[str, str]]) -> None:
    for row in summaries:
        (function,) = ast.parse(row["document"]).body
        assert isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        assert ast.get_docstring(function) is None or row["summary"] not in row["document"]


def test_same_rows_in_another_process(modules: list[dict[str, str]]) -> None:
    program = (
        "from tunesmith.data.samples import sample_rows; rows = sample_rows('stdlib-modules');"
        "print(len(rows), rows[0]['text'], rows[-1]['text'])"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, encoding="utf-8", check=True).stdout
    assert out.strip() == f"{len(modules)} {modules[0]['text']} {modules[-1]['text']}"


def test_reading_the_library_imports_none_of_it() -> None:
    program = (
        "import sys; from tunesmith.data.samples import sample_rows;"
        "sample_rows('stdlib-modules'); sample_rows('stdlib-summaries');"
        "print([name for name in ('mailbox', 'antigravity', 'this', 'asyncio', 'torch') if name in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


@pytest.mark.parametrize("name", ["stdlib-modules", "stdlib-summaries"])
def test_python_without_sources_is_a_clear_error(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sysconfig, "get_path", lambda scheme: str(tmp_path / "python313.zip"))
    with pytest.raises(DataError, match=r"source of Python's standard library.*python313\.zip.*sample:tones"):
        sample_rows(name)


def test_summary_rows_of_one_file(tmp_path: Path) -> None:
    (tmp_path / "shapes.py").write_text(
        "class Shape:\n"
        "    @property\n"
        "    def area(self):\n"
        '        """Return the area in square metres.\n\n        More words.\n        """\n'
        "        # a comment that stays\n\n"
        "        return self.width * self.height\n"
        "\n"
        "    def only_documented(self):\n"
        '        """Return nothing, there is only this docstring."""\n'
        "\n"
        "    def torn(self):\n"
        '        """Return the first half of a long\n        sentence."""\n'
        "        width = self.width\n"
        "        return width\n"
    )
    (source,) = parse_files([tmp_path / "shapes.py"], root=tmp_path)
    assert _rows_of(source) == [
        {
            "document": "@property\ndef area(self):\n    # a comment that stays\n    return self.width * self.height",
            "summary": "Return the area in square metres.",
        }
    ]


def test_files_that_are_no_python_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("def broken(:\n")
    (tmp_path / "coding.py").write_bytes(b"# coding: no-such-coding\n")
    (tmp_path / "good.py").write_text("x = 1\n")
    assert [source.path for source in parse_files(sorted(tmp_path.glob("*.py")), root=tmp_path)] == ["good.py"]


def test_hash_order_keeps_its_sequence_when_rows_are_added() -> None:
    rows = [{"text": str(number)} for number in range(50)]
    longer = in_hash_order([*rows, {"text": "new"}], by="text")
    assert [row for row in longer if row["text"] != "new"] == in_hash_order(rows, by="text")
