"""Templates with placeholders: reading, checking, filling."""

from __future__ import annotations

from datetime import datetime

import pytest

from tunesmith.data.placeholders import as_text, check_placeholders, fill, parse_placeholders, placeholder_names, unescape
from tunesmith.errors import DataError


def filled(text: str, **row: object) -> str:
    return fill(parse_placeholders(text), row)


def test_placeholders_are_filled_and_doubled_braces_are_braces() -> None:
    assert filled('{{"answer": "{a}"}} {b}', a="x", b=2) == '{"answer": "x"} 2'


def test_names_come_in_order_of_first_use_and_may_have_blanks() -> None:
    assert placeholder_names("{b} {a b} {b}") == ["b", "a b"]


@pytest.mark.parametrize(
    ("typed", "meant"), [(r"a\nb", "a\nb"), (r"a\tb", "a\tb"), (r"a\\nb", r"a\nb"), ("a\nb", "a\nb"), (r"C:\dir", r"C:\dir")]
)
def test_backslashes_typed_in_a_shell(typed: str, meant: str) -> None:
    assert unescape(typed) == meant


@pytest.mark.parametrize("text", ["{", "a}", "{a", "{}", "{ }", "{a{b}}", '{"a": "{b}"}'])
def test_braces_that_do_not_pair_up(text: str) -> None:
    with pytest.raises(DataError, match="brace"):
        parse_placeholders(text)


def test_an_unknown_placeholder_names_the_columns_and_the_nearest() -> None:
    with pytest.raises(DataError, match=r"'phrse'.*it has: phrase, tone.*Did you mean 'phrase'\?.*--map_columns COLUMN=phrse"):
        check_placeholders("{phrse} {tone}", ["phrase", "tone"])


def test_a_template_without_placeholders() -> None:
    with pytest.raises(DataError, match=r"uses no column.*\{phrase\}"):
        check_placeholders("hello", ["phrase"])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (3, "3"),
        (0.5, "0.5"),
        (["a", "b"], "a b"),
        ([1, 2], "1 2"),
        ({"a": "é"}, '{"a": "é"}'),
        ([{"a": 1}], '[{"a": 1}]'),
        (datetime(2020, 1, 2), "2020-01-02T00:00:00"),
    ],
)
def test_cells_as_text(value: object, text: str) -> None:
    assert as_text(value) == text


def test_a_missing_value_is_named() -> None:
    with pytest.raises(DataError, match="no value for b, which the template uses; given: a"):
        filled("{a}{b}", a="x")
