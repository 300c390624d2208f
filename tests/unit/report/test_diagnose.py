"""Each usual cause of a poor result, planted in a run's files, is the one that is named; the command mends it."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from finished_run import write_lines, write_run
from tunesmith.report.diagnose import Diagnosis, again, diagnose
from tunesmith.report.run_files import read_run_files


def look(folder: Path) -> Diagnosis:
    return diagnose(read_run_files(folder))


def level(found: Diagnosis, topic: str) -> str:
    return next(finding.level for finding in found.findings if finding.topic.startswith(topic))


def test_a_good_run_has_nothing_to_mend(tmp_path: Path) -> None:
    found = look(write_run(tmp_path / "run"))
    assert {finding.level for finding in found.findings} == {"good"}
    assert [finding.topic for finding in found.findings] == [
        "data",
        "template and tokenization",
        "learning rate and duration",
        "overfitting",
        "rank",
        "base model",
    ]
    assert found.summary == "Nothing stands out: the run gained over its base."


#: what is planted -> (topic, part of the evidence, part of the command)
PLANTED: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "nothing held out": ({"answers": False, "validation": ()}, "data", "No rows were held out", "--validation_fraction 0.1"),
    "labels that can't be learnt": (
        {"train": (2.0, 1.5, 1.0, 0.5), "validation": (2.0, 2.0, 2.1, 2.0), "tuned_right": 11},
        "data",
        "labels may be wrong",
        "tunesmith data check mail.jsonl",
    ),
    "a rate that is too low": (
        {"train": (2.0, 1.99, 1.98, 1.97), "validation": (2.0, 1.99, 1.98, 1.97), "tuned_right": 11},
        "learning rate and duration",
        "Neither loss moved much",
        "--learning_rate 0.003",
    ),
    "a rate that is too high": (
        {"train": (2.0, 1.0, 2.5, 0.9, 3.0, 2.9), "validation": (2.0, 1.2, 1.4)},
        "learning rate and duration",
        "unsteady",
        "--learning_rate 0.0003",
    ),
    "stopped early": (
        {"train": (2.0, 1.6, 1.2, 0.9, 0.7, 0.5), "validation": (2.0, 1.5, 1.1, 0.8, 0.6)},
        "learning rate and duration",
        "still falling when training ended",
        "--num_train_epochs 6",
    ),
    "overfitting": (
        {"validation": (2.0, 0.5, 0.7, 0.9, 1.1)},
        "overfitting",
        "lowest at step 10 (0.5) and rose to 1.1",
        "--num_train_epochs 2",
    ),
    "too small an adapter": (
        {"train": (2.0, 1.5, 1.3, 1.29, 1.29, 1.29), "validation": (2.0, 1.5, 1.4, 1.3)},
        "rank",
        "levels out at 1.29 with rank 16",
        "--lora_r 64",
    ),
}


@pytest.mark.parametrize("name", PLANTED)
def test_what_is_planted_is_named(name: str, tmp_path: Path) -> None:
    planted, topic, evidence, command = PLANTED[name]
    found = look(write_run(tmp_path / "run", **planted))
    assert level(found, topic) == "likely"
    assert found.summary.startswith(f"Most likely: {topic}. ")
    assert evidence in found.summary
    assert command in found.command


@pytest.mark.parametrize(
    ("line", "evidence"),
    [
        ({"stopped": False}, "100% of the tuned model's answers don't end by themselves"),
        ({"output": " "}, "100% of the tuned model's answers are empty"),
        ({"output": "the question and more"}, "100% of the tuned model's answers repeat the prompt"),
    ],
)
def test_answers_that_tell_of_the_template(line: dict[str, Any], evidence: str, tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", outcome=False)
    write_lines(folder / "predictions.jsonl", [{"row": 1, "input": "the question", "output": "a", "references": ["a"], **line}])
    found = look(folder)
    assert evidence in found.summary
    assert found.command == "tunesmith data preview mail.jsonl"


def test_data_without_files_is_shown_by_a_run(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", outcome=False, options={"data_name": "sample:tones"})
    write_lines(folder / "predictions.jsonl", [{"row": 1, "input": "a", "output": "", "references": ["a"]}])
    assert "--data_name sample:tones" in look(folder).command
    assert "--show_examples 3" in look(folder).command


def test_rows_that_are_too_long(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", options={"max_seq_len": 128})
    write_lines(folder / "cut_rows.jsonl", [{"row": number, "what": "cut"} for number in range(30)])
    found = look(folder)
    assert "30 training rows were cut" in found.summary
    assert "--max_seq_len 256" in found.command


def test_few_rows_and_labels_out_of_balance_are_mentioned(tmp_path: Path) -> None:
    found = look(write_run(tmp_path / "few", rows=12, base_right=3, tuned_right=12))
    assert level(found, "data") == "unsure"
    folder = write_run(tmp_path / "odd")
    labels = ["card"] * 30 + ["parcel"] * 2
    write_lines(folder / "predictions.jsonl", [{"row": n, "output": "card", "references": [label]} for n, label in enumerate(labels)])
    assert any("30 held-out rows are 'card', 2 'parcel'" in finding.evidence for finding in look(folder).findings)


def test_what_costs_nothing_does_as_well(tmp_path: Path) -> None:
    found = look(write_run(tmp_path / "run", base_right=10, tuned_right=12))
    assert level(found, "base model") == "likely"
    assert "majority" in next(finding.evidence for finding in found.findings if finding.topic == "base model")


def test_a_run_without_curves(tmp_path: Path) -> None:
    found = look(write_run(tmp_path / "run", train=(), validation=()))
    assert level(found, "learning rate") == "unsure"
    assert level(found, "overfitting") == "unsure"


def test_the_command_is_that_of_the_run_with_a_change(tmp_path: Path) -> None:
    options = {
        "data_name": "my data.jsonl",
        "target_modules": ["q_proj", "v_proj"],
        "use_rslora": True,
        "loss_kwargs": {"gamma": 2},
        "max_steps": 9,
    }
    run = read_run_files(write_run(tmp_path / "run", options=options))
    words = shlex.split(again(run, (("num_train_epochs", "6"),)))
    assert words[:2] == ["tunesmith", "finetune"]
    given = dict(zip(words[2::2], words[3::2], strict=True))
    assert given == {
        "--data_name": "my data.jsonl",
        "--learning_rate": "0.001",
        "--num_train_epochs": "6",
        "--target_modules": "q_proj,v_proj",
        "--use_rslora": "true",
        "--loss_kwargs": "gamma=2",
        "--output_path": f"{run.folder}-2",
    }
