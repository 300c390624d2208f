"""Trials on disk: found again, judged anew, and nothing is lost but what was half written."""

from __future__ import annotations

import json
import logging
import math
from dataclasses import replace
from pathlib import Path

import pytest

from tunesmith.errors import OutputError
from tunesmith.export.recipes.blocks import BlockFormat
from tunesmith.export.recipes.recipe import WeightRecipe
from tunesmith.export.search.records import TRIALS, Records, Trial, hash_values
from tunesmith.export.stages import StageScores

TRIAL = Trial(
    WeightRecipe("rtn", BlockFormat(4, 32, symmetric=True), higher=("model.layers.0.mlp",), head="int8"),
    1_000_000,
    StageScores("quantized", "quantized", max_logit_distance=2.5, kl=0.1, metrics={"exact_match": 0.5}, num_positions=40),
    row_scores=(1.0, 0.0),
    stopped=(True, False),
    seconds=1.5,
)


def test_what_was_written_is_found_again(tmp_path: Path) -> None:
    Records(tmp_path / "out-search").add("a", TRIAL.to_dict())
    again = Records(tmp_path / "out-search")
    assert again.trial("a") == TRIAL
    assert again.trial("b") is None
    assert TRIAL.trace.scores == [1.0, 0.0]
    assert TRIAL.trace.stopped == [True, False]


def test_nothing_is_made_before_something_is_written(tmp_path: Path) -> None:
    assert Records(tmp_path / "out-search").find("a") is None
    assert list(tmp_path.iterdir()) == []


def test_a_line_that_was_half_written_is_left_out_and_the_next_is_whole(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    records = Records(tmp_path)
    records.add("a", TRIAL.to_dict())
    records.add("b", TRIAL.to_dict())
    file = tmp_path / TRIALS
    file.write_bytes(file.read_bytes()[:-30])  # the program was killed in the middle of a line
    with caplog.at_level(logging.WARNING):
        after = Records(tmp_path)
    assert "line 2 can't be read and is left out" in caplog.text
    after.add("c", TRIAL.to_dict())
    found = Records(tmp_path)
    assert [found.trial(key) for key in "abc"] == [TRIAL, None, TRIAL]


def test_a_line_of_something_else_is_measured_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / TRIALS).write_bytes(b'[1]\n\xff\xfe\n{"key": "a"}\n' + json.dumps({"key": "b", **TRIAL.to_dict()}).encode())
    with caplog.at_level(logging.WARNING):
        records = Records(tmp_path)
    assert caplog.text.count("can't be read") == 2
    assert records.trial("a") is None
    assert "can't be understood" in caplog.text
    assert records.trial("b") == TRIAL


def test_numbers_that_json_has_not(tmp_path: Path) -> None:
    broken = replace(TRIAL, scores=replace(TRIAL.scores, max_logit_distance=math.inf))
    Records(tmp_path).add("a", broken.to_dict())
    assert Records(tmp_path).trial("a") == broken


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "out-search").write_text("a file")
    with pytest.raises(OutputError, match=r"out-search.* can't be"):
        Records(tmp_path / "out-search").add("a", {})


def test_keys_tell_values_apart() -> None:
    assert hash_values("a", 1) == hash_values("a", 1)
    assert len({hash_values("a", 1), hash_values("a", 2), hash_values("a", [1]), hash_values("a")}) == 4
