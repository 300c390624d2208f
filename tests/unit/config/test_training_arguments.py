"""All of transformers' TrainingArguments are known, with types, without importing transformers."""

from __future__ import annotations

import dataclasses
import enum
import subprocess
import sys
import typing

import pytest

from tunesmith.config import training_arguments as subject
from tunesmith.config.declare import alternatives, kind_of
from tunesmith.config.training_source import Unsupported, read_training_arguments
from tunesmith.errors import ConfigError


def as_read(annotation: typing.Any) -> set[str]:
    """The members of a type, enumerations by their values, in a form that can be compared."""
    members = set()
    for member in alternatives(annotation):
        if isinstance(member, type) and issubclass(member, enum.Enum):
            members.add(str(typing.Literal[tuple(item.value for item in member)]))
        elif typing.get_origin(member) is list:
            members.add(f"list {as_read(typing.get_args(member)[0])}")
        else:
            members.add(str(member))
    return members


def test_the_source_says_what_the_class_says() -> None:
    from transformers import TrainingArguments

    read = read_training_arguments()
    types = typing.get_type_hints(TrainingArguments)
    fields = {field.name: field for field in dataclasses.fields(TrainingArguments)}
    assert list(read) == list(fields)
    for name, field in fields.items():
        default = field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
        assert read[name].default == default, name
        assert read[name].description == " ".join(field.metadata.get("help", "").split()), name
        if Unsupported not in alternatives(read[name].annotation):
            assert as_read(read[name].annotation) == as_read(types[name]), name
            assert kind_of(read[name].annotation) == kind_of(types[name]), name
    unsupported = {name for name, argument in read.items() if Unsupported in alternatives(argument.annotation)}
    assert unsupported <= set(subject.DECIDED)


def test_without_the_source_the_class_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = subject.training_arguments()
    monkeypatch.setattr(subject, "read_training_arguments", dict)
    subject.training_arguments.cache_clear()
    try:
        assert list(subject.training_arguments()) == list(expected)
        assert subject.check_training_arguments({"lr_scheduler_type": "cosine"}) == {"lr_scheduler_type": "cosine"}
    finally:
        subject.training_arguments.cache_clear()


def test_transformers_accepts_what_comes_out(tmp_path: typing.Any) -> None:
    from transformers import TrainingArguments

    given = {
        "learning_rate": "1e-4",
        "num_train_epochs": "2",
        "max_steps": "-1",
        "lr_scheduler_type": "cosine",
        "lr_scheduler_kwargs": '{"num_cycles": 0.4}',
        "warmup_ratio": "0.03",
        "report_to": ["none"],
        "eval_strategy": "no",
        "optim": "adamw_torch",
        "debug": "underflow_overflow",
        "dataloader_num_workers": "4",
        "tf32": "none",
        "include_num_input_tokens_seen": "true",
        "logging_steps": "10",
    }
    made = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, **subject.check_training_arguments(given))
    assert made.learning_rate == 1e-4
    assert made.warmup_steps == 0.03
    assert made.lr_scheduler_kwargs == {"num_cycles": 0.4}
    assert made.include_num_input_tokens_seen == "all"


@pytest.mark.parametrize("name", ["per_device_train_batch_size", "learning_rate", "num_train_epochs", "max_steps", "save_total_limit"])
def test_zero_is_refused_where_it_makes_no_sense(name: str) -> None:
    with pytest.raises(ConfigError, match=f"--{name} is 0"):
        subject.check_training_arguments({name: "0"})


@pytest.mark.parametrize("name", sorted(subject.DECIDED))
def test_what_tunesmith_decides_is_refused_with_the_other_way(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        subject.check_training_arguments({name: "x"})
    assert str(caught.value) == f"--{name} is not taken here: {subject.DECIDED[name]}"


def test_the_nearest_name_is_sought_among_both_kinds_of_options() -> None:
    with pytest.raises(ConfigError) as caught:
        subject.check_training_arguments({"learning_rat": "1", "lora_alfa": "2", "zzz": "1"}, own=["lora_alpha"])
    assert caught.value.problems == (
        "--learning_rat is not known. Did you mean 'learning_rate'?",
        "--lora_alfa is not known. Did you mean 'lora_alpha'?",
        "--zzz is not known",
    )


def test_two_spellings_of_one_argument_are_refused() -> None:
    for given in ({"warmup_ratio": "0.1", "warmup_steps": "5"}, {"warmup_steps": "5", "warmup_ratio": "0.1"}):
        with pytest.raises(ConfigError, match="under another name too"):
            subject.check_training_arguments(given)


def test_transformers_is_not_imported() -> None:
    code = "import sys; from tunesmith.config.training_arguments import check_training_arguments as c; c({'max_steps': '5'}); "
    code += "sys.exit(any(name in sys.modules for name in ('transformers', 'torch')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
