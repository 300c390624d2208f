"""Every way in which users of this field write a flag, and every way to get it wrong."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tunesmith.cli.parse import Parsed, is_flag, parse
from tunesmith.config.command_line import COMMAND_LINE_OPTIONS
from tunesmith.config.declare import Kind, declared_options
from tunesmith.config.finetune import FinetuneOptions
from tunesmith.config.training_arguments import training_kinds

OPTIONS = declared_options(FinetuneOptions) | COMMAND_LINE_OPTIONS


def given(*words: str) -> dict[str, object]:
    parsed = parse(words, OPTIONS, others=training_kinds)
    assert not parsed.problems
    assert not parsed.positionals
    return parsed.given


def problems(*words: str) -> list[str]:
    return parse(words, OPTIONS, others=training_kinds).problems


@pytest.mark.parametrize("flag", ["--lora_r", "--lora-r"])
def test_both_spellings_and_both_ways_to_attach_a_value(flag: str) -> None:
    assert given(flag, "8") == given(f"{flag}=8") == {"lora_r": "8"}


@pytest.mark.parametrize(
    ("words", "value"),
    [
        (["--overwrite"], True),
        (["--overwrite", "true"], "true"),
        (["--overwrite", "false"], "false"),
        (["--overwrite=false"], "false"),
        (["--overwrite=0"], "0"),
        (["--no-overwrite"], False),
        (["--no_overwrite"], False),
    ],
)
def test_all_forms_of_a_boolean_arrive(words: list[str], value: object) -> None:
    assert given(*words) == {"overwrite": value}


@pytest.mark.parametrize(
    ("words", "value"),
    [
        (["--gradient_checkpointing"], True),
        (["--gradient-checkpointing", "False"], "False"),
        (["--gradient_checkpointing=false"], "false"),
        (["--no-gradient-checkpointing"], False),
    ],
)
def test_all_forms_of_a_boolean_of_transformers_arrive(words: list[str], value: object) -> None:
    assert given(*words) == {"gradient_checkpointing": value}


def test_a_boolean_takes_no_word_that_is_none_of_its_values() -> None:
    for flag in ("--overwrite", "--gradient_checkpointing", "--no-bf16"):
        assert parse([flag, "data.jsonl"], OPTIONS, others=training_kinds).positionals == ["data.jsonl"]


def test_a_denied_boolean_takes_no_value() -> None:
    assert problems("--no-overwrite=false") == ["--no-overwrite takes no value"]
    assert problems("--no-overwrite", "true") == ["--no-overwrite takes no value"]


def test_a_boolean_or_value_may_stand_alone() -> None:
    assert given("--init_lora_weights") == {"init_lora_weights": True}
    assert given("--init_lora_weights", "pissa") == {"init_lora_weights": "pissa"}
    assert given("--no-init_lora_weights") == {"init_lora_weights": False}


def test_short_flags() -> None:
    assert given("-m", "gpt2", "-d", "data.jsonl", "-o=out") == {
        "model_name_or_path": "gpt2",
        "data_name": "data.jsonl",
        "output_path": "out",
    }


@pytest.mark.parametrize("number", ["-1", "-1e-4", "-.5"])
def test_a_negative_number_is_a_value(number: str) -> None:
    assert given("--max_steps", number) == given(f"--max_steps={number}") == {"max_steps": number}


@pytest.mark.parametrize("text", ["- {a}\n- {b}", "-{a}", "", "--- {a}", "a=b --x=c"])
def test_text_is_a_value_as_it_is(text: str) -> None:
    if text:
        assert given(f"--text_template={text}") == {"text_template": text}
        assert given("--text_template", text) == {"text_template": text}
    else:
        assert problems("--text_template=") == ["--text_template= needs a value"]


def test_a_value_with_an_equals_sign_is_kept_whole() -> None:
    assert given("--text_template=Q={q} A={a}") == {"text_template": "Q={q} A={a}"}


@pytest.mark.parametrize(
    "words",
    [
        ["--data_files", "a.json", "b.json"],
        ["--data_files", "a.json,b.json"],
        ["--data_files=a.json,b.json"],
        ["--data_files", "a.json", "--data-files", "b.json"],
        ["--data_files=a.json", "--lora_r", "8", "--data_files", "b.json"],
    ],
)
def test_lists_with_commas_with_spaces_and_repeated(words: list[str]) -> None:
    assert given(*words)["data_files"] == ["a.json", "b.json"]


def test_a_list_ends_at_the_next_flag() -> None:
    assert given("--target_modules", "q_proj", "v_proj", "-o", "out") == {"target_modules": ["q_proj", "v_proj"], "output_path": "out"}


def test_lists_of_transformers() -> None:
    assert given("--report_to", "tensorboard", "wandb") == {"report_to": ["tensorboard", "wandb"]}


def test_mappings_stay_whole() -> None:
    assert given("--map_columns", "a=b", "c=d,e=f") == {"map_columns": ["a=b", "c=d,e=f"]}
    assert given("--liger_kernel_config", '{"rope": true, "swiglu": false}') == {"liger_kernel_config": ['{"rope": true, "swiglu": false}']}


def test_words_without_a_flag_are_kept_in_order() -> None:
    assert parse(["a", "--lora_r", "8", "-5 + 3 =", "-", "--", "--lora_r"], OPTIONS).positionals == ["a", "-5 + 3 =", "-", "--lora_r"]


@pytest.mark.parametrize("words", [["--lora_r"], ["--lora_r", "--overwrite"], ["--data_files"], ["--learning_rate", "-o", "x"], ["-o"]])
def test_a_missing_value_is_a_problem(words: list[str]) -> None:
    assert len(problems(*words)) == 1
    assert problems(*words)[0].endswith("needs a value")


def test_a_value_given_twice_is_a_problem_unless_it_is_the_same() -> None:
    assert problems("--lora_r", "8", "--lora-r=16") == ["--lora-r is given twice: 8 and 16"]
    assert problems("--overwrite", "--no-overwrite") == ["--no-overwrite is given twice: True and False"]
    assert given("--lora_r", "8", "--lora_r", "8") == {"lora_r": "8"}


def test_unknown_flags_are_collected_and_not_swallowed() -> None:
    parsed = parse(["--lora_rr", "8", "--unknown", "--also=x", "-x", "-output", "y"], OPTIONS, others=training_kinds)
    assert parsed.given == {"lora_rr": "8", "unknown": True, "also": "x", "x": True, "output": "y"}
    assert parsed.problems == []


def test_the_other_library_is_asked_only_for_flags_that_are_not_ours() -> None:
    calls = []

    def others() -> Mapping[str, Kind]:
        calls.append(1)
        return {"max_steps": "value"}

    parse(["--lora_r", "8", "--no-overwrite", "x"], OPTIONS, others=others)
    assert calls == []
    parsed: Parsed = parse(["--max_steps", "5", "--zzz", "--other"], OPTIONS, others=others)
    assert calls == [1]
    assert parsed.given["max_steps"] == "5"


def test_what_is_a_flag() -> None:
    assert all(is_flag(word) for word in ("--a", "--a-b=c d", "-o", "-o=x", "-output"))
    assert not any(is_flag(word) for word in ("-", "--", "-1", "-1e5", "- a", "-{a}", "a", "--1", "--- x", ""))
