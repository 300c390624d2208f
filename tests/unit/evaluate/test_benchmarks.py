"""Tasks of lm-eval, from task files of one's own over local data: figures are those that lm-eval gets from transformers itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tiny_models import tiny_model, tiny_tokenizer
from tunesmith.data.task_file import TaskRecord
from tunesmith.data.templates import Template
from tunesmith.errors import DataError, DependencyError, UsageError
from tunesmith.runtime.torch_runtime import TorchRuntime

pytest.importorskip("lm_eval")

from tunesmith.evaluate.benchmarks import Harness

ROWS = [
    {"question": f"the train number {number} leaves at", "choices": ["noon", "seven in the morning", "never"], "gold": number % 3}
    for number in range(12)
]
DATA = "dataset_path: json\ndataset_kwargs:\n  data_files:\n    test: {file}\ntest_split: test\n"
CHOICE = """task: trains
{data}output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: choices
doc_to_target: gold
metric_list:
  - metric: acc
  - metric: acc_norm
"""
ROLLING = """task: train_text
{data}output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{{{question}}}}"
metric_list:
  - metric: word_perplexity
"""
ANSWER = """task: train_answer
{data}output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{choices[gold]}}}}"
generation_kwargs:
  until: ["t", "\\n"]
  max_gen_toks: 12
  do_sample: false
metric_list:
  - metric: exact_match
"""
TASKS = ["trains", "train_text", "train_answer"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("tasks")
    data = made / "test.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    for name, text in zip(TASKS, (CHOICE, ROLLING, ANSWER), strict=True):
        (made / f"{name}.yaml").write_text(text.format(data=DATA.format(file=data)))
    return made


@pytest.fixture(scope="module")
def harness(folder: Path) -> Harness:
    return Harness(folder)


def runtime(task: TaskRecord | None = None) -> TorchRuntime:
    chat = Template(kind="chat", chat_template=str(tiny_tokenizer().chat_template))
    return TorchRuntime(tiny_model("llama", seed=5), tiny_tokenizer(), chat, task)


def test_figures_are_those_of_lm_eval(harness: Harness, tmp_path: Path) -> None:
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    theirs: Any = simple_evaluate(
        model=HFLM(pretrained=tiny_model("llama", seed=5), tokenizer=tiny_tokenizer(), batch_size=4, device="cpu"),
        tasks=TASKS,
        task_manager=harness.manager,
        bootstrap_iters=0,
    )
    found = harness.run(runtime(), TASKS, predictions_file=tmp_path / "p.jsonl")
    assert found.num_rows == 36
    for task, name in (("trains", "acc"), ("trains", "acc_norm"), ("train_text", "word_perplexity"), ("train_answer", "exact_match")):
        assert found.metrics[f"{task}/{name}"] == pytest.approx(theirs["results"][task][f"{name},none"], rel=1e-4)
    lines = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    assert len(lines) == 36
    for line in lines:
        sample = next(one for one in theirs["samples"][line["task"]] if one["doc_id"] == line["row"])
        if line["task"] == "train_answer":
            # our answers come without the blank that a template may have before them
            assert line["output"] == [text.removeprefix(" ") for text in sample["filtered_resps"]]


def test_a_limit_is_one_of_each_task(harness: Harness) -> None:
    assert harness.run(runtime(), ["trains"], limit=2, num_fewshot=0).num_rows == 2


@pytest.mark.integration  # reads lm-eval's thousands of task files
def test_a_task_that_is_not_there(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no benchmark 'trans'.*Did you mean 'trains'"):
        Harness(folder).check(["trans"])
    Harness(folder).check(["trains", "hellaswag"])


def test_no_task_is_named(harness: Harness) -> None:
    with pytest.raises(UsageError, match="names no task"):
        harness.check([])


def test_a_head_answers_no_benchmark(harness: Harness) -> None:
    headed = runtime(TaskRecord("text-classification", head=True, labels=("a", "b")))
    with pytest.raises(UsageError, match="writes no text"):
        harness.run(headed, ["trains"])


def test_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no folder"):
        Harness(tmp_path / "nowhere")
    (tmp_path / "t.yaml").write_text(CHOICE.format(data=DATA.format(file=tmp_path / "nowhere.jsonl")))
    broken = Harness(tmp_path)
    broken.check(["trains"])
    with pytest.raises(DataError, match=r"the benchmarks trains can't be run: .*nowhere\.jsonl"):
        broken.run(runtime(), ["trains"])


def test_without_lm_eval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "lm_eval.tasks", None)
    with pytest.raises(DependencyError, match=r"--benchmarks needs the package 'lm-eval'.*pip install 'tunesmith\[eval\]'"):
        Harness()
