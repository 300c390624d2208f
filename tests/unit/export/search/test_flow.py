"""The search from a run to a certified folder, on a tiny model with real quantization."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tunesmith import api
from tunesmith.cli.main import main
from tunesmith.errors import ExportHarm, ModelError
from tunesmith.export.search import flow, trials
from tunesmith.export.search.records import TRIALS
from tunesmith.export.search.result import SearchResult

pytest.importorskip("onnxruntime_genai", reason="needs onnxruntime-genai (extra 'cpu')")


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the recipes that are quantized to be scored."""
    found: list[str] = []
    real = trials.Laboratory._measured

    def count(self: trials.Laboratory, recipe: Any) -> Any:
        found.append(recipe.name)
        return real(self, recipe)

    monkeypatch.setattr(trials.Laboratory, "_measured", count)
    return found


def manifest(folder: Path) -> Any:
    return json.loads((folder / "manifest.json").read_text(encoding="utf-8"))


def test_the_smallest_that_keeps_the_metric_ships_and_a_second_run_measures_nothing(
    searched_run: Path, tmp_path: Path, measured: list[str]
) -> None:
    made = api.optimize(str(searched_run), str(tmp_path / "out"), precision="auto")
    assert made.certificate is not None
    assert made.certificate.passed
    assert [stage.name for stage in made.certificate.stages] == ["tuned", "onnx-fp32", "quantized"]
    assert made.search is not None
    chosen = [row for row in made.search.rows if row.chosen]
    assert len(chosen) == 1
    assert len(made.search.rows) == len(measured)
    assert abs(chosen[0].size_mb * 1e6 - made.size_bytes) < 0.15 * made.size_bytes  # tiny files are mostly the graph
    shipped = manifest(tmp_path / "out")["export"]
    assert SearchResult.from_dict(shipped["search"]) == made.search
    assert shipped["recipe"]["options"]["recipe"] == chosen[0].recipe
    assert "Recipes that were tried" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    # what the stage in PyTorch scored is what the ONNX model scores
    assert made.certificate.stages[-1].perplexity == pytest.approx(chosen[0].perplexity, rel=0.05)

    count = len(measured)
    again = api.optimize(str(searched_run), str(tmp_path / "out"), precision="auto", overwrite=True)
    assert len(measured) == count
    assert again.search == made.search


def test_what_was_tried_last_is_not_rounded_again_to_be_written(
    searched_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, rounded = trials.quantize, []

    def count(model: Any, recipe: Any, activations: Any) -> Any:
        rounded.append(recipe.name)
        return real(model, recipe, activations)

    monkeypatch.setattr(trials, "quantize", count)
    api.optimize(str(searched_run), str(tmp_path / "out"), trials=1, limit=6)
    assert len(rounded) == 1


def test_more_trials_and_a_resumed_run_measure_only_what_is_new(searched_run: Path, tmp_path: Path, measured: list[str]) -> None:
    api.optimize(str(searched_run), str(tmp_path / "out"), trials=2)
    assert len(measured) == 2
    file = tmp_path / "out-search" / TRIALS
    file.write_bytes(file.read_bytes()[:-20])  # killed while it wrote the second
    shutil.rmtree(tmp_path / "out")
    more = api.optimize(str(searched_run), str(tmp_path / "out"), trials=3)
    assert len(measured) == 4
    assert measured[2] == measured[1]
    assert more.search is not None
    assert len(more.search.rows) == 3
    api.optimize(str(searched_run), str(tmp_path / "out"), trials=3, overwrite=True, min_quality=0.5)
    assert len(measured) == 4  # another tolerance judges the same figures
    api.optimize(str(searched_run), str(tmp_path / "out"), trials=1, overwrite=True, limit=7)
    assert len(measured) == 5  # other rows


def test_the_best_within_a_size_and_a_speed(searched_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["auto-opt", str(searched_run), "-o", str(tmp_path / "out"), "--trials", "2", "--limit", "6"]
    assert main([*words, "--max_size_mb", "1000", "--max_latency_ms", "100000"]) == 0
    printed = capsys.readouterr().out
    assert "ms a token" in printed
    assert "ships" in printed
    assert "int8 rtn" in printed  # the largest that is allowed is looked at first
    speeds = [json.loads(line) for line in (tmp_path / "out-search" / TRIALS).read_text().splitlines() if "token_ms" in line]
    assert speeds
    assert sorted(path.name for path in (tmp_path / "out-search").iterdir()) == [TRIALS]
    assert main([*words, "--max_size_mb", "1000", "--max_latency_ms", "0.000001", "--overwrite"]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert "keeps the metric within the limits; the smallest that loses nothing is int" in error
    assert "ms a token" in error


def test_nothing_fits(searched_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["auto-opt", str(searched_run), "-o", str(tmp_path / "out"), "--max_size_mb", "0.01", "--limit", "6"]) == 1
    assert "no recipe fits into 0.0 MB: the smallest is" in capsys.readouterr().err.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_without_any_good_recipe_it_ships_unquantized(searched_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow.Laboratory, "measure", losing(flow.Laboratory.measure))
    made = api.optimize(str(searched_run), str(tmp_path / "out"), trials=2, limit=6)
    assert made.target.precision == "fp32"
    assert "No recipe that was tried loses little enough." in made.words
    assert made.search is not None
    assert not any(row.chosen for row in made.search.rows)
    assert manifest(tmp_path / "out")["export"]["search"]["rows"]
    assert api.optimize(str(searched_run), str(tmp_path / "lossy"), trials=2, limit=6, accept_loss=True).target.precision == "int4"


def losing(real: Any) -> Any:
    return lambda self, recipe: replace(real(self, recipe), failures=("quantized: much",))


def test_what_fails_as_onnx_gives_way_to_the_next(searched_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, shipped = flow._Shipping._certified, []

    def fail_first(self: Any, folder: Path, trial: Any, weights: Any) -> Any:
        certificate = real(self, folder, trial, weights)
        shipped.append(trial.recipe.name)
        if len(shipped) == 1:
            raise flow._Lost(replace(certificate, failures=("quantized: all of it",)))
        return certificate

    monkeypatch.setattr(flow._Shipping, "_certified", fail_first)
    made = api.optimize(str(searched_run), str(tmp_path / "out"), trials=3, limit=6)
    assert len(shipped) == 2
    assert made.words[0] == f"{shipped[0]} kept the metric in PyTorch, but not as ONNX: quantized: all of it."
    assert made.search is not None
    assert [row.name for row in made.search.rows if row.chosen] == [shipped[1]]


def test_what_is_wrong_before_anything_is_rounded_ends_it(searched_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, shipped = flow._Shipping._certified, []

    def fail(self: Any, folder: Path, trial: Any, weights: Any) -> Any:
        shipped.append(trial)
        raise flow._Lost(replace(real(self, folder, trial, weights), failures=("onnx-fp32: its logits",)))

    monkeypatch.setattr(flow._Shipping, "_certified", fail)
    with pytest.raises(ExportHarm, match="onnx-fp32: its logits"):
        api.optimize(str(searched_run), str(tmp_path / "out"), trials=2, limit=6)
    assert len(shipped) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["out-search"]


def test_a_flipped_code_fails_the_certificate(searched_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tunesmith.export.search import built

    real = built.write_codes

    def write_and_flip(skeleton: Path, folder: Path, blocks: Any) -> None:
        changed = dict(blocks)
        name = next(iter(changed))
        codes = changed[name].codes.clone()
        codes[0, 0, 0] ^= 1
        changed[name] = replace(changed[name], codes=codes)
        real(skeleton, folder, changed)

    monkeypatch.setattr(built, "write_codes", write_and_flip)
    made = api.optimize(str(searched_run), str(tmp_path / "out"), trials=1, limit=6)
    assert made.target.precision == "fp32"
    assert "but not as ONNX: quantized: the weights of layer model.layers.0" in made.words[0]


def test_a_method_that_has_no_way_for_the_model_is_said(searched_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = flow.Laboratory.measure

    def refuse(self: Any, recipe: Any) -> Any:
        if recipe.method != "rtn":
            raise ModelError(f"no way for {recipe.method}")
        return real(self, recipe)

    monkeypatch.setattr(flow.Laboratory, "measure", refuse)
    made = api.optimize(str(searched_run), str(tmp_path / "out"), trials=1, limit=6)
    assert made.search is not None
    assert {row.name.split()[1].rstrip(",") for row in made.search.rows} == {"rtn"}


def test_ctrl_c_says_how_to_go_on(
    searched_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real, seen = flow.Laboratory.measure, []

    def stop_at_the_second(self: Any, recipe: Any) -> Any:
        seen.append(recipe)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return real(self, recipe)

    monkeypatch.setattr(flow.Laboratory, "measure", stop_at_the_second)
    assert main(["auto-opt", str(searched_run), "-o", str(tmp_path / "out"), "--trials", "3", "--limit", "6"]) == 130
    said = capsys.readouterr().err.splitlines()[-1]
    assert "is kept in" in said
    assert "the same command goes on from there" in said
    assert [path.name for path in tmp_path.iterdir()] == ["out-search"]


def test_a_full_budget_of_minutes_ends_it(searched_run: Path, tmp_path: Path, measured: list[str]) -> None:
    api.optimize(str(searched_run), str(tmp_path / "out"), max_minutes=1e-9, max_size_mb=100, limit=6)
    assert len(measured) == 1  # one is tried in any case
