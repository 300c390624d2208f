"""What a person writes becomes a value of the option's type, or a reason why not."""

from __future__ import annotations

import enum
from typing import Any, Literal

import pytest

from tunesmith.config.values import convert, parse_boolean, parse_integer, parse_mapping, parse_number, split_list


class Schedule(enum.Enum):
    COSINE = "cosine"
    LINEAR = "linear"


@pytest.mark.parametrize("text", ["true", "True", "YES", "on", "1", True])
def test_words_that_mean_true(text: object) -> None:
    assert parse_boolean(text) is True


@pytest.mark.parametrize("text", ["false", "False", "no", "OFF", "0", False])
def test_words_that_mean_false(text: object) -> None:
    assert parse_boolean(text) is False


@pytest.mark.parametrize("text", ["ture", "", "2", None, 2])
def test_other_words_are_no_boolean(text: object) -> None:
    with pytest.raises(ValueError, match="neither true nor false"):
        parse_boolean(text)


@pytest.mark.parametrize(("text", "number"), [("8", 8), ("-1", -1), ("1e3", 1000), (16.0, 16), ("9007199254740993", 9007199254740993)])
def test_whole_numbers(text: object, number: int) -> None:
    value = parse_integer(text)
    assert value == number
    assert isinstance(value, int)


@pytest.mark.parametrize("text", ["1.5", "abc", "", "nan", "inf", False, None, [1]])
def test_what_is_no_whole_number(text: object) -> None:
    with pytest.raises(ValueError, match="not a whole number"):
        parse_integer(text)


@pytest.mark.parametrize(("text", "number"), [("1e-4", 1e-4), ("-0.5", -0.5), (3, 3.0), ("1E-6", 1e-6)])
def test_numbers(text: object, number: float) -> None:
    assert parse_number(text) == number


def test_numbers_of_numpy() -> None:
    numpy = pytest.importorskip("numpy")
    assert convert(numpy.int64(8), int | None) == 8
    assert convert(numpy.float32(0.5), float) == 0.5


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", float("nan")])
def test_a_number_is_finite(text: object) -> None:
    with pytest.raises(ValueError, match="not a finite number"):
        parse_number(text)


def test_a_flag_without_a_value_needs_one() -> None:
    for annotation in (int, float, str, Literal["a", "b"], dict[str, str], tuple[str, ...], float | None):
        with pytest.raises(ValueError, match="needs a value"):
            convert(True, annotation)


def test_lists() -> None:
    assert split_list("q_proj, v_proj,") == ["q_proj", "v_proj"]
    assert split_list('["a,b.json", "c.json"]') == ["a,b.json", "c.json"]
    assert convert("q_proj,v_proj", tuple[str, ...] | None) == ("q_proj", "v_proj")
    assert convert(["a,b"], tuple[str, ...]) == ("a,b",), "a list that Python made is taken as it is"
    assert convert("0,5", tuple[int, ...] | None) == (0, 5)
    assert convert("tensorboard,wandb", None | str | list[str]) == ["tensorboard", "wandb"]
    assert convert("none", None | str | list[str]) == "none", "where text is possible, none is a word"
    with pytest.raises(ValueError, match="'x', not a whole number"):
        convert("0,x", tuple[int, ...])


def test_mappings() -> None:
    assert parse_mapping(["text=phrase,label=tone", "a=b=c"]) == {"text": "phrase", "label": "tone", "a": "b=c"}
    assert parse_mapping('{"num_cycles": 2, "x": {"y": [1, 2]}}') == {"num_cycles": 2, "x": {"y": [1, 2]}}
    assert convert("num_cycles=2,name=warm,flag=true", dict | str | None) == {"num_cycles": 2, "name": "warm", "flag": True}
    assert convert("ds_config.json", dict | str | None) == "ds_config.json", "a path stays a path"
    assert convert("min_lr=1e-6", dict[str, Any]) == {"min_lr": 1e-6}


@pytest.mark.parametrize(
    ("value", "reason"), [("a", "not key=value"), ("a=1,a=2", "twice"), ('{"a": 1', "is not JSON"), (3, "not key=value")]
)
def test_what_is_no_mapping(value: object, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        convert(value, dict[str, str])


def test_enumerations_name_the_nearest_word() -> None:
    assert convert("COSINE", Schedule | str) == "cosine"
    assert convert("bfloat16", Literal["auto", "bfloat16"]) == "bfloat16"
    with pytest.raises(ValueError, match=r"'cosin', not one of cosine, linear\. Did you mean 'cosine'"):
        convert("cosin", Schedule | str)
    with pytest.raises(ValueError, match="Did you mean 'bfloat16'"):
        convert("bfloat", Literal["auto", "bfloat16"] | str)


def test_unions_try_the_narrow_types_first() -> None:
    assert convert("true", bool | str | None) is True
    assert convert("pissa", bool | str | None) == "pissa"
    assert convert("1", bool | str | None) == "1", "beside text only true and false are booleans"
    assert convert("None", int | None) is None
    assert convert(None, int | None) is None
    assert convert("7", int | str) == 7


def test_python_values_of_another_type_are_refused() -> None:
    for value, annotation in (({"a": 1}, str), (["a"], str), (True, str), ({"a": 1}, tuple[str, ...]), (None, bool)):
        with pytest.raises(ValueError, match=r"is|needs"):
            convert(value, annotation)
