"""The certificate: what is harmless passes, and every kind of harm is named with its stage."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from tiny_models import learn_by_heart, tiny_model, tiny_tokenizer
from tunesmith.data.task_file import TaskRecord
from tunesmith.data.templates import Template
from tunesmith.errors import DataError, ExportHarm, UsageError
from tunesmith.export.certificate import Certificate, Examination, certify
from tunesmith.export.evaluation_set import evaluation_set
from tunesmith.export.stages import Stage
from tunesmith.export.tolerances import Judged, Tolerances
from tunesmith.runtime.torch_runtime import TorchRuntime

TEMPLATE = Template(kind="text", text="Q: {question}\nA: {answer}", answer_column="answer", stop_tokens=("<|im_end|>",))
ROWS = [{"question": f"number {n} of {n * 7 % 11}?", "answer": ["yes", "no", "maybe so"][n % 3]} for n in range(24)]
Change = Callable[[nn.Module], object]


@pytest.fixture(scope="module")
def taught() -> nn.Module:
    """A tiny model that has learnt the rows by heart, so that it answers and stops."""
    model = tiny_model("llama", initializer_range=0.06)
    learn_by_heart(model, ROWS, TEMPLATE, steps=80)
    return model.eval()


def stage(model: nn.Module, name: str, change: Change | None = None, template: Template = TEMPLATE, **options: Any) -> Stage:
    def load() -> TorchRuntime:
        changed = copy.deepcopy(model)
        with torch.no_grad():
            if change is not None:
                change(changed)
        return TorchRuntime(changed, tiny_tokenizer(), template, options.get("task"))

    return Stage(name, load, options.get("judged"))


def rounded(levels: int) -> Change:
    """Round every matrix to so many values, as a crude quantization."""

    def change(model: nn.Module) -> None:
        for parameter in model.parameters():
            if parameter.dim() == 2:
                scale = parameter.abs().amax(dim=1, keepdim=True).clamp(min=1e-9) / (levels // 2)
                parameter.copy_((parameter / scale).round() * scale)

    return change


def nudged(by: float) -> Change:
    def change(model: Any) -> None:
        model.model.layers[1].mlp.down_proj.weight[3, 5] += by

    return change


def test_what_is_the_same_passes(taught: nn.Module) -> None:
    found = certify([stage(taught, "base"), stage(taught, "tuned"), stage(taught, "merged"), stage(taught, "onnx-fp32")], ROWS)
    assert found.passed
    assert not found.failures
    assert found.check() is found
    assert [one.name for one in found.stages] == ["base", "tuned", "merged", "onnx-fp32"]
    merged = found.stages[2]
    assert (merged.max_logit_distance, merged.kl, merged.top1_agreement, merged.top1_everywhere, merged.greedy_equal) == (0, 0, 1, 1, 1)
    assert (merged.metrics["exact_match"], merged.stopped, merged.tokens_differ) == (1.0, 1.0, 0)
    assert merged.perplexity == pytest.approx(1, abs=0.05)
    assert merged.size_mb is not None
    assert found.stages[1].max_logit_distance is None  # the reference is compared with nothing


def test_fine_rounding_passes_and_coarse_fails(taught: nn.Module) -> None:
    fine = certify([stage(taught, "tuned"), stage(taught, "quantized", rounded(255))], ROWS)
    assert fine.passed
    assert fine.stages[1].max_logit_distance > 0
    coarse = certify([stage(taught, "tuned"), stage(taught, "quantized", rounded(3))], ROWS)
    assert not coarse.passed
    assert any(text.startswith("quantized: exact answers") and "got worse" in text for text in coarse.failures), coarse.failures


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("merged", nudged(0.01), "merged: its logits differ from the tuned model's by up to"),
        ("onnx-fp32", nudged(30.0), "onnx-fp32: the likeliest token is the tuned model's at"),
        ("onnx-fp32", nudged(math.nan), "onnx-fp32: it computes logits that are not numbers"),
    ],
)
def test_a_flipped_weight_fails(taught: nn.Module, name: str, change: Change, words: str) -> None:
    found = certify([stage(taught, "tuned"), stage(taught, name, change)], ROWS)
    assert any(text.startswith(words) for text in found.failures), found.failures


def test_another_model_in_the_place_of_the_tuned_one_fails(taught: nn.Module) -> None:
    other = tiny_model("llama", seed=1)
    for name in ("merged", "onnx-fp32", "quantized"):
        found = certify([stage(taught, "tuned"), stage(other, name)], ROWS)
        assert found.failures
        assert all(text.startswith(f"{name}: ") for text in found.failures)


def test_on_the_grid_written_tokens_are_compared(taught: nn.Module) -> None:
    found = certify([stage(taught, "tuned"), stage(taught, "quantized", rounded(3), judged="grid")], ROWS)
    assert any("of a model that was trained on its grid" in text for text in found.failures)


def test_a_missing_stop_token_and_a_changed_template_fail(taught: nn.Module) -> None:
    endless = replace(TEMPLATE, stop_tokens=())
    more = replace(TEMPLATE, stop_tokens=("<|im_end|>", "<|startoftext|>"))
    changed = replace(TEMPLATE, text="Question: {question}\nA: {answer}")
    for template, words in (
        (changed, "its template is not that of training: it writes"),
        (more, "its template and tokenizer stop at <|startoftext|> too, where training went on"),
    ):
        found = certify([stage(taught, "tuned"), stage(taught, "quantized", template=template)], ROWS)
        assert any(text.startswith(f"quantized: {words}") for text in found.failures), found.failures
    tuned = replace(TEMPLATE, stop_tokens=("<|im_end|>", "<|im_start|>"))
    found = certify([stage(taught, "tuned", template=tuned), stage(taught, "quantized", template=endless)], ROWS)
    assert any("<|im_start|> is missing" in text for text in found.failures), found.failures


def test_answers_that_no_longer_stop_are_counted(taught: nn.Module) -> None:
    def never_stops(model: Any) -> None:
        model.lm_head.weight[2] = 0

    found = certify([stage(taught, "tuned"), stage(taught, "quantized", never_stops)], ROWS)
    assert any("of its answers stop by themselves, 100% with the tuned model" in text for text in found.failures), found.failures
    assert found.stages[1].stopped == 0


def test_losses_are_an_error_unless_accepted(taught: nn.Module) -> None:
    found = certify([stage(taught, "tuned"), stage(taught, "quantized", rounded(3))], ROWS)
    with pytest.raises(ExportHarm, match=r"^quantized: .*--accept_loss") as caught:
        found.check()
    assert caught.value.exit_status == 1
    accepted = found.check(accept_loss=True)
    assert accepted.accepted
    assert accepted.to_dict()["accepted_loss"]
    assert not accepted.passed
    assert "accepted by --accept_loss" in accepted.table()


def test_it_survives_the_manifest(taught: nn.Module) -> None:
    import json

    found = certify([stage(taught, "tuned"), stage(taught, "quantized", nudged(math.nan))], ROWS)
    values = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    again = Certificate.from_dict(values)
    assert again.to_dict() == values
    assert again.failures == found.failures
    assert "quantized" in again.table()


def test_tolerances_are_settable(taught: nn.Module) -> None:
    stages = [stage(taught, "tuned"), stage(taught, "merged", nudged(0.01))]
    assert not certify(stages, ROWS).passed
    assert certify(stages, ROWS, tolerances=Tolerances(merged_logits=1.0)).passed
    for wrong in ({"float_top1": 1.5}, {"task_drop": -0.1}, {"merged_logits": math.nan}):
        with pytest.raises(UsageError, match=f"the tolerance {next(iter(wrong))} is"):
            Tolerances(**wrong)


def test_without_rows_text_of_the_standard_library_is_scored(taught: nn.Module) -> None:
    found = certify([stage(taught, "tuned"), stage(taught, "merged")], max_rows=5)
    assert found.passed
    assert "5 paragraphs of the standard library's documentation" in found.rows
    assert found.stages[1].num_positions > 100
    assert not found.stages[1].metrics


def test_what_is_the_same_in_several_exports_is_scored_once(taught: nn.Module) -> None:
    loaded: list[str] = []

    def counted(one: Stage, *, shared: bool) -> Stage:
        def load() -> Any:
            loaded.append(one.name)
            return one.load()

        return replace(one, load=load, shared=shared)

    before = [counted(stage(taught, name), shared=True) for name in ("base", "tuned", "merged")]
    float_stage = counted(stage(taught, "onnx-fp32", nudged(30.0)), shared=True)
    with Examination(ROWS) as examination:
        coarse, fine = (
            examination.certify([*before, float_stage, counted(stage(taught, "quantized", rounded(levels)), shared=False)])
            for levels in (3, 255)
        )
    assert loaded == ["tuned", "base", "merged", "onnx-fp32", "quantized", "quantized"]
    assert coarse.stages[:4] == fine.stages[:4]
    assert [text.partition(":")[0] for text in fine.failures] == ["onnx-fp32"]  # what a shared stage lost, every export lost
    assert fine.failures == certify([*before, float_stage, stage(taught, "quantized", rounded(255))], ROWS).failures
    assert any(text.startswith("quantized: ") for text in coarse.failures)


def test_labels_are_chosen_and_written_freely(taught: nn.Module) -> None:
    template = replace(TEMPLATE, task="text-classification")
    task = TaskRecord("text-classification", labels=("yes", "no", "maybe so"), label_column="answer")
    tuned, same = (stage(taught, name, template=template, task=task) for name in ("tuned", "quantized"))
    found = certify([tuned, same], ROWS)
    assert found.passed
    assert found.stages[1].metrics["accuracy"] == 1
    assert found.stages[1].stopped == 1
    assert found.stages[1].greedy_equal == 1


def test_a_few_rows_do_not_condemn_by_chance() -> None:
    """Two of twenty answers lost: more than 1%, but not more than chance does; the perplexity decides."""
    from tunesmith.export.judging import losses, notes
    from tunesmith.export.scoring import Trace
    from tunesmith.export.stages import StageScores

    asked = evaluation_set(TorchRuntime(tiny_model("llama"), tiny_tokenizer(), TEMPLATE), ROWS)

    def scored(right: int, perplexity: float, rows: int = 20) -> tuple[StageScores, Trace]:
        scores = [1.0] * right + [0.0] * (rows - right)
        judged: Judged = "quantized"
        return (
            StageScores("quantized", judged, metrics={"exact_match": right / rows}, perplexity=perplexity),
            Trace(scores=scores),
        )

    reference, right = scored(20, 1.10)
    for (stage_scores, trace), words in ((scored(18, 1.12), []), (scored(18, 1.30), ["perplexity"]), (scored(10, 1.10), ["exact answers"])):
        found = losses(stage_scores, trace, reference, right, asked, Tolerances())
        assert len(found) == len(words), found
        assert all(word in text for word, text in zip(words, found, strict=True)), found
    assert "within what chance does with 20 rows" in notes(*scored(18, 1.12), reference, right, asked, Tolerances())[0]


def test_what_cannot_be_certified_is_refused(taught: nn.Module) -> None:
    with pytest.raises(UsageError, match="stages of different names, 'tuned' among them"):
        certify([stage(taught, "merged")], ROWS)
    with pytest.raises(DataError, match="column 'answer' is missing or empty; there is: question"):
        certify([stage(taught, "tuned")], [{"question": "why?"}])
