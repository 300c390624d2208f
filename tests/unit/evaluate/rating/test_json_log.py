"""The append-only log: whatever moment a program ends at, what was written whole is read back, and appending goes on."""

from __future__ import annotations

import errno
import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tunesmith.errors import DataError, OutputError
from tunesmith.evaluate.rating.json_log import JsonLog, read_json_log

RECORDS = [{"rater": "Ada", "item": 1}, {"comment": "grüße 🐶\nsecond line"}, {"item": 3, "winner": None}]


def write(path: Path, records: list[dict[str, object]]) -> bytes:
    with JsonLog(path) as log:
        for record in records:
            log.append(record)
    return path.read_bytes()


def test_what_is_appended_is_read(tmp_path: Path) -> None:
    path = tmp_path / "votes.jsonl"
    assert read_json_log(path) == []
    content = write(path, RECORDS)
    assert content.count(b"\n") == 3
    assert read_json_log(path) == RECORDS
    write(path, [{"more": 1}])
    assert read_json_log(path) == [*RECORDS, {"more": 1}]


def test_cut_at_every_byte(tmp_path: Path) -> None:
    content = write(tmp_path / "whole.jsonl", RECORDS)
    ends = [number + 1 for number, byte in enumerate(content) if byte == 10]
    for cut in range(len(content) + 1):
        path = tmp_path / "cut.jsonl"
        path.write_bytes(content[:cut])
        # a record whose line break alone is missing is whole
        expected = RECORDS[: sum(end <= cut + 1 for end in ends)]
        assert read_json_log(path) == expected, cut
        with JsonLog(path) as log:
            assert log.records == expected, cut
            log.append({"after": cut})
        assert read_json_log(path) == [*expected, {"after": cut}], cut


def test_half_a_line_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "votes.jsonl"
    path.write_bytes(b'{"item": 1}\n{"item": 2, "wi')
    with caplog.at_level(logging.WARNING):
        JsonLog(path).close()
    assert "only half written" in caplog.text
    assert '{"item": 2, "wi' in caplog.text
    assert path.read_bytes() == b'{"item": 1}\n'


@pytest.mark.skipif(os.name == "nt", reason="a process is killed by a POSIX signal")
def test_killed_in_the_middle(tmp_path: Path) -> None:
    path = tmp_path / "votes.jsonl"
    program = (
        "import itertools, sys\nfrom pathlib import Path\nfrom tunesmith.evaluate.rating.json_log import JsonLog\n"
        "log = JsonLog(Path(sys.argv[1]))\n"
        "for number in itertools.count(1):\n    log.append({'item': number, 'comment': 'x' * 5000})\n    print(number, flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = [int(process.stdout.readline()) for _ in range(20)]
    process.send_signal(signal.SIGKILL)
    said += [int(line) for line in process.communicate()[0].splitlines()]
    found = [record["item"] for record in read_json_log(path)]
    assert found == list(range(1, len(found) + 1))
    assert len(found) >= said[-1], "what was said to be saved is there"


@pytest.mark.parametrize(("line", "words"), [(b"{oops}", "line 2 is not JSON"), (b"[1]", "line 2 is no JSON object"), (b"\xff", "line 2")])
def test_a_broken_line_in_the_middle_is_no_crash_of_ours(line: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "votes.jsonl"
    path.write_bytes(b'{"item": 1}\n' + line + b'\n{"item": 3}\n')
    with pytest.raises(DataError, match=words):
        read_json_log(path)


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "votes.jsonl"
    before = write(path, RECORDS)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with JsonLog(path) as log:
        with monkeypatch.context() as patched:
            patched.setattr("os.fsync", full)
            with pytest.raises(OutputError, match="the disk is full"):
                log.append({"item": 4})
        assert path.read_bytes() == before
        log.append({"item": 5})
    assert read_json_log(path) == [*RECORDS, {"item": 5}]


def test_text_that_is_no_unicode_is_kept_as_far_as_it_can(tmp_path: Path) -> None:
    path = tmp_path / "votes.jsonl"
    write(path, [{"text": json.loads('"a\\ud800b"')}])
    assert read_json_log(path) == [{"text": "a?b"}]


def test_a_folder_is_no_log(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="can't be read"):
        read_json_log(tmp_path)
