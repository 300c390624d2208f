"""Options of several sources become one checked set that knows where each value came from."""

from __future__ import annotations

import pytest

from tunesmith.config.finetune import FinetuneOptions
from tunesmith.config.generate import MergeOptions
from tunesmith.config.resolve import check, resolve
from tunesmith.errors import ConfigError


def test_the_stronger_source_wins_and_is_recorded() -> None:
    resolved = resolve(FinetuneOptions, [("tunesmith.yaml", {"lora_r": 8, "method": "dora"}), ("flag", {"lora_r": "32"})])
    assert (resolved.options.lora_r, resolved.options.method) == (32, "dora")
    assert (resolved.sources["lora_r"], resolved.sources["method"], resolved.sources["task"]) == ("flag", "tunesmith.yaml", "default")
    assert resolved.explicit == {"lora_r", "method"}


def test_a_flag_wins_over_another_spelling_in_a_file() -> None:
    resolved = resolve(FinetuneOptions, [("tunesmith.yaml", {"warmup_steps": 5}), ("flag", {"warmup_ratio": "0.1"})])
    assert resolved.options.training == {"warmup_steps": 0.1}
    with pytest.raises(ConfigError, match="--warmup_ratio and --warmup_steps are the same"):
        resolve(FinetuneOptions, [("flag", {"warmup_steps": 5, "warmup_ratio": "0.1"})])
    with pytest.raises(ConfigError, match="--warmup_ratio is 'x', not a number"):
        resolve(FinetuneOptions, [("flag", {"warmup_ratio": "x"})])


def test_none_counts_as_not_given() -> None:
    resolved = resolve(FinetuneOptions, [("tunesmith.yaml", {"lora_r": 8}), ("argument", {"lora_r": None})])
    assert resolved.options.lora_r == 8


@pytest.mark.parametrize("value", ["false", "no", "0", False])
def test_a_boolean_that_is_false_is_not_dropped(value: object) -> None:
    resolved = resolve(FinetuneOptions, [("flag", {"group_by_length": value, "gradient_checkpointing": value})])
    assert resolved.options.group_by_length is False
    assert resolved.options.training == {"gradient_checkpointing": False}
    assert {"group_by_length", "gradient_checkpointing"} <= resolved.explicit


def test_training_arguments_stand_flat_or_nested() -> None:
    flat = resolve(FinetuneOptions, [("flag", {"learning_rate": "1e-4", "max_steps": "10"})])
    nested = resolve(FinetuneOptions, [("flag", {"training": {"learning_rate": 1e-4, "max_steps": 10}})])
    assert flat.options.training == nested.options.training == {"learning_rate": 1e-4, "max_steps": 10}
    assert nested.sources["learning_rate"] == "flag"


def test_every_problem_of_every_source_is_reported_at_once() -> None:
    flags = {"lora_rr": "8", "lora_r": "eight", "learning_rate": "fast", "torch_dtype": "bf16", "output_dir": "x"}
    with pytest.raises(ConfigError) as caught:
        resolve(FinetuneOptions, [("tunesmith.yaml", {"lora_dropout": 2, "max_stps": 5}), ("flag", flags)])
    text = str(caught.value)
    assert len(caught.value.problems) == 7
    assert "\n" not in text
    for part in (
        "tunesmith.yaml: lora_dropout is 2.0: should be less than 1",
        "tunesmith.yaml: max_stps is not known. Did you mean 'max_steps'?",
        "--lora_rr is not known. Did you mean 'lora_r'?",
        "--lora_r is 'eight', not a whole number",
        "--learning_rate is 'fast', not a number",
        "--torch_dtype is 'bf16', not one of auto, bfloat16, float16, float32",
        "--output_dir is not taken here: use --output_path",
    ):
        assert part in text


def test_commands_without_training_refuse_training_arguments() -> None:
    with pytest.raises(ConfigError, match="--learning_rate is not known"):
        resolve(MergeOptions, [("flag", {"learning_rate": "1"})])


def test_check_returns_problems_instead_of_raising() -> None:
    resolved, problems = check(FinetuneOptions, [("flag", {"max_seq_len": "1"})])
    assert resolved is None
    assert problems == ["--max_seq_len is 1: should be greater than or equal to 2"]


def test_the_record_has_all_values_with_sources_but_no_secret() -> None:
    record = resolve(FinetuneOptions, [("flag", {"token": "hf_secret", "warmup_ratio": "0.1", "map_columns": ["text=phrase"]})]).record()
    assert "hf_secret" not in str(record)
    assert "training" not in record
    assert record["warmup_steps"] == {"value": 0.1, "source": "flag"}
    assert record["map_columns"] == {"value": {"text": "phrase"}, "source": "flag"}
    assert record["method"] == {"value": "lora", "source": "default"}
