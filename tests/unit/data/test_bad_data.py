"""Bad data and templates: one line each, with the file, the row or the columns, and a way to mend it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from conftest_types import Write

from tiny_models import tiny_tokenizer
from tunesmith.data.formats import recognize
from tunesmith.data.prepare import prepare
from tunesmith.data.provenance import data_columns
from tunesmith.data.sources import load_splits
from tunesmith.data.templates import choose_template
from tunesmith.errors import UserError

GOOD = '{"text": "a", "label": "x"}\n'

# name of the file, its content, what the message says (a regular expression)
FILES: list[tuple[str, Any, str]] = [
    ("a.jsonl", GOOD + '{"text": "a" "label": "x"}\n', r"a\.jsonl: line 2 is not JSON: .*Write one JSON object a line"),
    ("a.jsonl", GOOD + "[1]\n", r"line 2 is a list, not an object"),
    ("a.jsonl", GOOD + "12\n", r"line 2 is a number, not an object"),
    ("a.jsonl", GOOD + '"text"\n', r"line 2 is a text, not an object"),
    ("a.json", "hello world\n", r"a\.json: the file is not JSON"),
    ("a.json", '{\n "text": "a",\n "label" "x"\n}', r"not JSON: .*line 3 column"),
    ("a.json", '{\n "text": "a",\n "label": "x"\n}', r"one JSON object \(keys: text, label\), not a list of rows.*Write \[\{…\}, \{…\}\]"),
    ("a.json", '[{"text": "a", "label": "x"},\n {"text": "b"]', r"row 2, near line 2: not JSON"),
    ("a.json", '[{"text": "a", "label": "x"},\n', r"row 2, near line 2: not JSON: the list isn't closed"),
    ("a.json", "[1, 2]", r"a\.json: row 1: it is a number, not an object"),
    ("a.json", "[]", r"a\.json: the list holds no row"),
    ("a.jsonl", "", r"a\.jsonl: the file is empty. Write one row a line"),
    ("a.jsonl", "\n \n", r"a\.jsonl: the file is empty"),
    ("a.csv", "text,label\n", r"a\.csv: the file holds no row. Add rows below the header"),
    ("a.csv", "text,text\na,b\n", r"two columns are called 'text' in the header: text, text"),
    ("a.csv", "text,label\na,b\nc,d,e\n", r"a\.csv: row 2: it has 3 cells, the header 2: text, label. Put cells that contain"),
    ("a.csv", "text,label\n" + "a,b\n" * 300 + "c,d,e\n", r"Expected 2 fields in line 302, saw 3. Put cells that contain"),
    ("a.jsonl", GOOD.encode() + '{"text": "café"}\n'.encode("latin1"), r"line 2 is not UTF-8: byte 0xe9 at position 41.*iconv -f LATIN1"),
    ("a.jsonl", GOOD.encode("utf-16"), r"line 1 is not UTF-8: byte 0xff at position 0.*iconv -f UTF-16 -t UTF-8 a\.jsonl"),
    ("a.csv", "text,label\ncafé,x\n".encode("latin1"), r"line 2 is not UTF-8"),
    ("a.xlsx", b"PK", r"file type '\.xlsx' isn't known; known: \.arrow, \.csv.*Save it as \.csv"),
    ("a", b"PK", r"file type '' isn't known"),
    ("a.parquet", b"PAR1", r"a\.parquet: the file can't be read as parquet"),
    ("a.jsonl.gz", b"not packed", r"a\.jsonl\.gz: the file can't be read"),
    ("a.jsonl", '{"words": ["a"], "scores": [1]}\n', r"a\.jsonl: the row format isn't known: columns words, scores.*--text_template"),
    ("a.jsonl", '{"text": "a", "label": null}\n{"text": "b", "label": ""}\n', r"row 1: nothing to learn from: column 'label' is empty"),
    ("a.jsonl", '{"messages": [{"role": "user", "content": "a"}]}\n', r"row 1: nothing to learn from: no message is the assistant's"),
    ("a.jsonl", '{"messages": "hello"}\n', r"a\.jsonl: row 1: column 'messages' is no list of messages"),
    ("a.jsonl", '{"messages": [{"from": "martian", "value": "a"}]}\n', r"a\.jsonl: row 1: a turn is from 'martian'"),
]


def read(name: str, **options: Any) -> None:
    """Everything that a run does with its data before training."""
    tokenizer = tiny_tokenizer()
    splits = load_splits(data_name=name)
    form = None if "text_template" in options or "text_field" in options else recognize(splits.train, origin=splits.origin)
    template = choose_template(form, data_columns(splits.train), tokenizer, **options)
    prepare(splits.train, template, tokenizer)


@pytest.mark.parametrize(("name", "content", "pattern"), FILES)
def test_bad_files(name: str, content: Any, pattern: str, write: Write, tmp_path: Path) -> None:
    write(name, content)
    with pytest.raises(UserError) as caught:
        read(name)
    assert re.search(pattern, str(caught.value)), str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "cache").rglob(".writing-*"))


@pytest.mark.parametrize(
    ("options", "pattern"),
    [
        ({"text_template": "hello"}, r"template 'hello' uses no column; the data has: text, label"),
        ({"text_template": ""}, r"template '' uses no column"),
        ({"text_template": "{text} {label"}, r"an opening brace at character 8 that starts no placeholder. Write \{\{ and \}\}"),
        ({"text_template": "{text} label}"}, r"a closing brace at character 13"),
        ({"text_template": "{text} {}"}, r"an opening brace at character 8"),
        ({"text_template": "{phrase}: {label}"}, r"uses 'phrase', which the data doesn't have; it has: text, label"),
        ({"text_template": '{"a": "{label}"}'}, r"opening brace at character 1"),
        ({"text_field": "txt"}, r"uses 'txt', which the data doesn't have; it has: text, label. Did you mean 'text'\?"),
        ({"chat_template": "no such"}, r"no chat template 'no such'"),
        ({"chat_template": "{% for %}"}, r"the chat template refuses a conversation"),
    ],
)
def test_bad_templates(options: dict[str, Any], pattern: str, write: Write) -> None:
    write("a.jsonl", GOOD)
    with pytest.raises(UserError) as caught:
        read("a.jsonl", **options)
    assert re.search(pattern, str(caught.value)), str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("bank.jsonl", r"bank\.jsonl: there is no such file. Did you mean 'banks\.jsonl'\?"),
        ("data/zzz.jsonl", r"data/zzz\.jsonl: there is no such file. data has: one\.jsonl, two\.csv"),
        ("nowhere/rows.jsonl", r"no such file, nor a folder nowhere"),
        ("./nothing", r"there is no such file"),
        ("empty", r"empty: the folder holds no data files; it is empty. Known file types: \.arrow"),
        ("notes", r"notes: the folder holds no data files; it has: README\.md, picture\.png"),
        ("owner/name", r"owner/name: it is no file or folder here, and the hub can't be reached \(offline\)"),
        ("bank", r"bank: it is no file or folder here.*Did you mean 'banks'\?"),
    ],
)
def test_names_that_stand_for_nothing(name: str, pattern: str, write: Write, tmp_path: Path) -> None:
    write("banks.jsonl", GOOD)
    write("data/one.jsonl", GOOD)
    write("data/two.csv", GOOD)
    write("notes/README.md", "x")
    write("notes/picture.png", "x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "banks").mkdir()
    with pytest.raises(UserError) as caught:
        read(name)
    assert re.search(pattern, str(caught.value)), str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_list_with_a_row_longer_than_a_chunk(write: Write) -> None:
    write("long.json", '[{"text": "' + "x" * 5_000_000 + '", "label": "a"}, {"text": "b", "label": "c"}]')
    assert [len(text) for text in load_splits(data_name="long.json").train["text"]] == [5_000_000, 1]


def test_a_letter_on_the_border_of_two_chunks_is_no_error(write: Write) -> None:
    head = '{"text": "'
    write("e.jsonl", head + "x" * ((1 << 20) - len(head) - 1) + 'é", "label": "a"}\n')
    assert load_splits(data_name="e.jsonl").train["text"][0][-1] == "é"


def test_bytes_of_another_encoding_on_the_border_of_two_chunks(write: Write) -> None:
    head = '{"text": "'
    write("e.jsonl", (head + "x" * ((1 << 20) - len(head) - 1)).encode() + b'\xe9", "label": "a"}\n')
    with pytest.raises(UserError, match=rf"line 1 is not UTF-8: byte 0xe9 at position {(1 << 20) - 1}"):
        load_splits(data_name="e.jsonl")


def test_two_rows_are_enough(write: Write) -> None:
    write("two.jsonl", GOOD * 2)
    read("two.jsonl")
