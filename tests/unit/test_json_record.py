"""Records beside weights are read in one way; whatever is wrong with the file is one line that names it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunesmith.data.task_file import TaskRecord, read_task, write_task
from tunesmith.data.template_file import read_template
from tunesmith.errors import ModelError
from tunesmith.evaluate.verdict import read_verdict
from tunesmith.json_record import read_record


def test_no_file_is_no_record(tmp_path: Path) -> None:
    assert read_record(tmp_path / "x.json", dict) is None
    assert (read_task(tmp_path), read_template(tmp_path), read_verdict(tmp_path)) == (None, None, None)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    record = TaskRecord("token-classification", head=True, labels=("O", "B-x"), sub_word="last")
    write_task(tmp_path, record)
    assert read_task(tmp_path) == record


@pytest.mark.parametrize("content", [b"{", b"[]", b"7", b"\xff", b"[1, 2"])
def test_a_spoilt_file_is_named(content: bytes, tmp_path: Path) -> None:
    for name in ("task.json", "template.json", "verdict.json"):
        (tmp_path / name).write_bytes(content)
    for read, name in ((read_task, "task"), (read_template, "template"), (read_verdict, "verdict")):
        with pytest.raises(ModelError, match=rf"{name}\.json can't be read: .*\. (Restore|Remove)"):
            read(tmp_path)
