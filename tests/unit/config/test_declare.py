"""The declared options are a fit basis for flags, help and manifests."""

from __future__ import annotations

import pytest

from tunesmith.config.command_line import COMMAND_LINE_OPTIONS
from tunesmith.config.declare import Options, declared_options, kind_of
from tunesmith.config.finetune import FinetuneOptions
from tunesmith.config.generate import ChatOptions, GenerateOptions, MergeOptions

ALL = [FinetuneOptions, GenerateOptions, ChatOptions, MergeOptions]


def test_how_types_take_their_values() -> None:
    assert kind_of(bool | None) == "boolean"
    assert kind_of(bool | str) == "boolean or value"
    assert kind_of(tuple[str, ...] | None) == "list"
    assert kind_of(str | list[str] | None) == "list"
    assert kind_of(dict[str, str] | None) == "mapping"
    assert kind_of(dict | str | None) == "value"
    assert kind_of(float) == "value"


@pytest.mark.parametrize("options", ALL)
def test_every_option_has_a_help_text_and_its_own_short_flag(options: type[Options]) -> None:
    known = declared_options(options) | COMMAND_LINE_OPTIONS
    assert all(option.description.endswith((".", "…")) for option in known.values())
    short = [option.short for option in known.values() if option.short]
    assert len(short) == len(set(short))
    assert set(declared_options(options)) == set(options.model_fields) - {"training"}


@pytest.mark.parametrize("options", ALL)
def test_the_defaults_are_valid(options: type[Options]) -> None:
    made = options()
    assert made == options.model_validate(made.model_dump())


def test_the_short_flags_of_the_field() -> None:
    short = {option.short: name for options in ALL for name, option in declared_options(options).items() if option.short}
    assert short == {"m": "model_name_or_path", "a": "adapter_path", "o": "output_path", "d": "data_name"}


def test_no_option_hides_a_training_argument() -> None:
    from tunesmith.config.training_arguments import training_arguments

    assert not set(declared_options(FinetuneOptions)) & set(training_arguments())
