"""Errors: one line, what was asked, how to mend it, and whose mistake it was."""

from __future__ import annotations

import pytest

from tunesmith import errors

ALL = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, errors.TunesmithError)]


@pytest.mark.parametrize("error", ALL)
def test_tree_in_the_docstring_is_the_tree(error: type[errors.TunesmithError]) -> None:
    assert error.__name__ in (errors.__doc__ or "")
    assert error.exit_status == (2 if issubclass(error, errors.UserError) else 1)


def test_message_and_fix_are_one_line() -> None:
    error = errors.ModelError("the folder\n  x   has\tno model.", fix="Give another")
    assert str(error) == "the folder x has no model. Give another"
    assert error.fix == "Give another"
    assert str(errors.ModelError("no fix")) == "no fix"


def test_data_error_names_the_place() -> None:
    error = errors.DataError("has no column 'a'", file="data.jsonl", row=17)
    assert str(error) == "data.jsonl: row 17: has no column 'a'"
    assert (error.file, error.row) == ("data.jsonl", 17)
    assert str(errors.DataError("is empty", file="data.jsonl")) == "data.jsonl: is empty"


def test_config_error_carries_all_problems() -> None:
    error = errors.ConfigError(iter(["a is wrong", "b is missing"]), where="x.yaml", fix="See the docs")
    assert error.problems == ("a is wrong", "b is missing")
    assert str(error) == "x.yaml: a is wrong; b is missing. See the docs"


def test_dependency_error_names_the_command() -> None:
    error = errors.DependencyError("bitsandbytes", "qlora", purpose="--quant_type nf4")
    assert str(error) == (
        "--quant_type nf4 needs the package 'bitsandbytes', which is not installed. Install it: pip install 'tunesmith[qlora]'"
    )


def test_nearest() -> None:
    assert errors.nearest("lorra", ["lora", "dora", "full"]) == "Did you mean 'lora'?"
    assert errors.nearest("xyz", ["lora", "full"]) == ""
