"""A finished run is judged by its held-out rows: both models are asked the same, next to what costs nothing; files are whole or absent."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tunesmith.artifact import Manifest, write_manifest
from tunesmith.data.task_file import TaskRecord, write_task
from tunesmith.data.templates import Template
from tunesmith.errors import DataError, ModelError
from tunesmith.evaluate import judge
from tunesmith.evaluate.finished_run import read_run, read_splits, spread, training_examples
from tunesmith.evaluate.judge import judge_run, main_metric
from tunesmith.evaluate.verdict import read_verdict
from tunesmith.runtime.protocol import Answer, Choice, Likelihood

LABELS = ("card", "parcel", "refund")
TEMPLATE = Template(kind="text", text="{text}\n{label}", task="text-classification", answer_column="label", stop_tokens=("<|im_end|>",))
TASK = TaskRecord("text-classification", labels=LABELS, label_column="label")


class Words:
    """A tokenizer of words."""

    def __call__(self, text: str, **_: Any) -> dict[str, list[int]]:
        return {"input_ids": list(range(len(text.split())))}


class FakeRuntime:
    """Answers as a function says; writes text or chooses among labels."""

    kind, tokenizer, context_length = "fake", Words(), None

    def __init__(self, answer: Callable[[Any], str], template: Template = TEMPLATE, task: TaskRecord = TASK) -> None:
        self.answer, self.template, self.task, self.room = answer, template, task, 0

    def with_template(self, template: Template, task: TaskRecord | None = None) -> FakeRuntime:
        return FakeRuntime(self.answer, template, task or TaskRecord(template.task))

    def choose(self, prompts: Sequence[Any], labels: Sequence[str] | None = None, *, probabilities: bool = True) -> list[Choice]:
        found = [self.answer(prompt) for prompt in prompts]
        return [Choice((label,), tuple(0.8 if name == label else 0.1 for name in LABELS)) for label in found]

    def generate(self, prompts: Sequence[Any], *, max_new_tokens: int = 256, **_: Any) -> list[Answer]:
        self.room = max_new_tokens
        return [Answer(self.answer(prompt), True, 3) for prompt in prompts]

    def log_likelihoods(self, pairs: Sequence[tuple[Any, str]]) -> list[Likelihood]:
        return [Likelihood(-1.0 if self.answer(prompt) == text else -9.0, 2, False) for prompt, text in pairs]


def letters(count: int, *, shuffled: bool = False, seed: int = 0) -> list[dict[str, str]]:
    """Rows of text and label; shuffled: the labels have nothing to do with the texts."""
    draw = random.Random(seed)
    rows = [{"text": f"{LABELS[number % 3]} number {draw.random():.6f}", "label": LABELS[number % 3]} for number in range(count)]
    if shuffled:
        rows = [{**row, "label": draw.choice(LABELS)} for row in rows]
    return rows


Rows = Sequence[dict[str, Any]]


def write_run(folder: Path, rows: Rows, held_out: Rows, *, task: TaskRecord = TASK, template: Template | None = TEMPLATE) -> Path:
    """Write what a training leaves, without weights."""
    (folder / "adapter").mkdir(parents=True)
    data = folder.parent / f"{folder.name}.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    manifest = Manifest(
        kind="finetune",
        task=task.name,
        method="lora",
        base="base",
        template=template.to_dict() if template else {},
        options={"data_name": {"value": str(data), "source": "flag"}},
        metrics={"eval_loss": 1.0},
    )
    write_manifest(folder, manifest)
    write_task(folder / "adapter", task)
    if held_out:
        (folder / "held_out.jsonl").write_text("".join(json.dumps(row) + "\n" for row in held_out))
    return folder


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> dict[str, FakeRuntime | None]:
    """What is loaded as base and as tuned model."""
    found: dict[str, FakeRuntime | None] = {}
    monkeypatch.setattr(judge, "load_base", lambda run: found["base"])
    monkeypatch.setattr(judge, "load_tuned", lambda run: found["tuned"])
    return found


def first_word(row: Any) -> str:
    return str(row["text"]).split()[0]


def by_chance(seed: int) -> Callable[[Any], str]:
    """A model that knows the labels and nothing else: its answer to a text is fixed, and has nothing to do with it."""
    return lambda row: LABELS[random.Random(f"{seed} {row['text']}").randrange(3)]


def test_a_gain(tmp_path: Path, models: dict[str, Any]) -> None:
    models |= {"base": FakeRuntime(lambda row: "card"), "tuned": FakeRuntime(first_word)}
    rows = letters(150)
    folder = write_run(tmp_path / "run", rows, rows[:48])
    verdict = judge_run(folder)
    assert (verdict.outcome, verdict.metric, verdict.num_rows) == ("gain", "accuracy", 48)
    assert (verdict.base, verdict.tuned) == (pytest.approx(1 / 3), 1.0)
    assert verdict.baselines["tfidf_logistic_regression"] == 1.0, "the first word tells"
    assert verdict.advice == f"tunesmith chat {folder}"
    assert read_verdict(folder) == verdict
    lines = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    assert [line["output"] for line in lines] == [row["label"] for row in rows[:48]]
    assert len((folder / "predictions_base.jsonl").read_text().splitlines()) == 48
    assert any("also decided which step" in line for line in verdict.words)
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_shuffled_labels_are_no_gain(tmp_path: Path, models: dict[str, Any]) -> None:
    """Whatever a model learns of such data, on new rows it can only know the labels' names; its base doesn't even know these."""
    for seed in range(20):
        rows = letters(140, shuffled=True, seed=seed)
        models |= {"base": FakeRuntime(lambda row: "I am not sure."), "tuned": FakeRuntime(by_chance(seed))}
        verdict = judge_run(write_run(tmp_path / str(seed), rows, rows[100:]))
        assert verdict.outcome == "no gain shown", seed
        assert verdict.advice.startswith("tunesmith diagnose")


def test_baselines_do_not_see_held_out_rows(tmp_path: Path) -> None:
    rows = letters(30)
    run = read_run(write_run(tmp_path / "run", rows, rows[:10]), max_rows=None)
    found = training_examples(run, read_splits(run))
    assert found.prompts == tuple(row["text"] for row in rows[10:])
    assert found.answers == tuple(row["label"] for row in rows[10:])


def test_at_most_so_many_rows_spread_evenly(tmp_path: Path, models: dict[str, Any]) -> None:
    models |= {"base": FakeRuntime(lambda row: "card"), "tuned": FakeRuntime(first_word)}
    rows = letters(100)
    assert judge_run(write_run(tmp_path / "run", rows, rows), max_rows=20).num_rows == 20
    assert spread(range(10), 4) == [0, 2, 5, 7]
    assert spread(range(3), 4) == [0, 1, 2]


def test_long_answers_are_compared_by_their_words_and_a_base_cannot_ramble(tmp_path: Path, models: dict[str, Any]) -> None:
    template = Template(kind="text", text="{question}\n{reply}", answer_column="reply")
    rows = [{"question": f"what about {number}", "reply": f"the answer to that is number {number}"} for number in range(40)]
    task = TaskRecord("text-generation", label_column="reply")
    models["base"] = base = FakeRuntime(lambda row: "who knows " * 30, template, task)
    models["tuned"] = FakeRuntime(lambda row: f"the answer to that is number {row['question'].split()[-1]}", template, task)
    verdict = judge_run(write_run(tmp_path / "run", rows, rows[:20], task=task, template=template))
    assert (verdict.outcome, verdict.metric) == ("gain", "rougeL")
    assert base.room == 7 * 3 // 2 + 8
    assert "perplexity" in verdict.others
    assert list(verdict.baselines) == ["majority"]


def test_a_head_has_no_base(tmp_path: Path, models: dict[str, Any]) -> None:
    models |= {"base": None, "tuned": FakeRuntime(first_word)}
    rows = letters(90)
    verdict = judge_run(write_run(tmp_path / "run", rows, rows[:30]))
    assert verdict.base is None
    assert verdict.outcome == "gain"
    assert not (tmp_path / "run" / "predictions_base.jsonl").exists()


def test_training_rows_that_are_gone(tmp_path: Path, models: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    models |= {"base": FakeRuntime(lambda row: "card"), "tuned": FakeRuntime(first_word)}
    folder = write_run(tmp_path / "run", letters(30), letters(30))
    (tmp_path / "run.jsonl").unlink()
    verdict = judge_run(folder)
    assert (verdict.outcome, verdict.baselines) == ("gain", {})
    assert "the training rows can't be read again" in caplog.text


def test_rows_without_an_answer_are_left_out_for_all(tmp_path: Path, models: dict[str, Any]) -> None:
    models |= {"base": FakeRuntime(lambda row: "card"), "tuned": FakeRuntime(first_word)}
    rows = letters(30)
    held_out = [{**row, "label": None if number % 3 == 0 else row["label"]} for number, row in enumerate(rows)]
    assert judge_run(write_run(tmp_path / "run", rows, held_out)).num_rows == 20


def test_no_rows_and_no_run(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no rows were held out of training.*--validation_fraction"):
        judge_run(write_run(tmp_path / "run", letters(3), []))
    with pytest.raises(ModelError, match="not the folder of a finished fine-tuning"):
        judge_run(tmp_path)
    folder = write_run(tmp_path / "empty", letters(3), [{"text": "a", "label": ""}])
    with pytest.raises(DataError, match="none of the held-out rows has a right answer"):
        judge_run(folder)
    (folder / "held_out.jsonl").write_text("{broken\n")
    with pytest.raises(DataError, match=r"held_out\.jsonl: a line is no JSON"):
        judge_run(folder)


@pytest.mark.parametrize(
    ("task", "template", "answer", "expected"),
    [
        ("text-classification", TEMPLATE, "card", "accuracy"),
        ("summarization", TEMPLATE, "card", "rouge"),
        ("extraction", TEMPLATE, "{}", "extraction"),
        ("token-classification", None, "", "span_f1"),
        ("similarity", None, "", "threshold_accuracy"),
        ("text-generation", TEMPLATE, "ls -la", "exact_match"),
        ("text-generation", TEMPLATE, "a rather long answer", "rouge"),
        ("text-generation", Template(kind="text", text="{label}", answer_column="label"), "any text", "perplexity"),
    ],
)
def test_the_metric_of_a_task(task: str, template: Template | None, answer: str, expected: str) -> None:
    assert main_metric(TaskRecord(task), template, [{"text": "x", "label": answer}]) == expected
