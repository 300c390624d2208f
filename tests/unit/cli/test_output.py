"""Results go to a file that is whole or not there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tunesmith.cli.output import open_output
from tunesmith.errors import OutputError


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "out.jsonl"
    with open_output(str(path), overwrite=False) as file:
        file.write("ü\n")
        assert not path.exists()
    assert path.read_text(encoding="utf-8") == "ü\n"
    assert [entry.name for entry in path.parent.iterdir()] == ["out.jsonl"]
    mask = os.umask(0)
    os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~mask, "as readable as any other file"


def test_what_breaks_off_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text("before")

    def interrupted() -> None:
        with open_output(str(path), overwrite=True) as file:
            file.write("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [(entry.name, entry.read_text()) for entry in tmp_path.iterdir()] == [("out.jsonl", "before")]


def test_what_is_refused(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("")
    for path, words in ((tmp_path, "is a folder"), (tmp_path / "there", "is there already"), (tmp_path / "there" / "x", "can't be made")):
        with pytest.raises(OutputError, match=words), open_output(str(path), overwrite=False):
            pass
