"""What users get wrong about tasks, heads and losses: one line on stderr, exit status 2, nothing left behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tunesmith.cli.main import main

pytestmark = pytest.mark.integration

LABELLED = [{"text": f"row {n}", "label": "even" if n % 2 == 0 else "odd"} for n in range(20)]
TAGGED = [{"tokens": ["row", str(n)], "tags": ["O", "B-number"]} for n in range(20)]
PAIRS = [{"text1": f"row {n}", "text2": f"line {n}", "label": n % 2} for n in range(20)]
NAMED = [{**row, "label": "entailment"} for row in PAIRS]
MESSAGES = [{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]} for _ in range(20)]
MODULES = """
import torch
from torch import nn

class Mean(nn.Module):
    def forward(self, logits, labels):
        return logits.mean()

class Sum(nn.Module):
    def forward(self, logits):
        return logits.sum()

class Many(nn.Module):
    def forward(self, logits, labels):
        return logits

class Frozen(nn.Module):
    def forward(self, logits, labels):
        return torch.tensor(logits.mean().item())

class Undefined(nn.Module):
    def forward(self, logits, labels):
        return torch.log(logits - 1e9).mean()

def function(logits, labels):
    return logits.mean()
"""

CASES: dict[str, tuple[list[dict[str, Any]], list[str], str]] = {
    "unknown task": (LABELLED, ["--task", "classification"], "--task classification is unknown"),
    "head that writes": (LABELLED, ["--task", "summarization", "--head"], "--head scores labels"),
    "head on conversations": (MESSAGES, ["--head"], "a text (or two) and a label"),
    "tags without tags": (LABELLED, ["--task", "token-classification"], "tokens and tags"),
    "pairs without pairs": (LABELLED, ["--task", "similarity"], "two texts and a label or score"),
    "template for a head": (LABELLED, ["--head", "--text_template", "{text}{label}"], "--text_template has no effect on --head"),
    "chat template for tags": (TAGGED, ["--chat_template", "chatml"], "--chat_template has no effect on the task token-classification"),
    "examples of a head": (LABELLED, ["--head", "--show_examples", "2"], "--show_examples has no effect"),
    "generating with a head": (LABELLED, ["--head", "--eval_generate"], "--eval_generate has no effect"),
    "weights of texts": (LABELLED, ["--class_weights", "balanced", "--task", "summarization"], "no effect on the task summarization"),
    "weights for a loss without": (LABELLED, ["--class_weights", "balanced", "--loss", "label-smoothing"], "with --loss label-smoothing"),
    "weights of an unknown label": (LABELLED, ["--class_weights", "weights.json"], "no row has the label 'evne'"),
    "weights that are no file": (LABELLED, ["--head", "--class_weights", "even=2"], "no JSON file of label -> weight"),
    "pooling of labels": (LABELLED, ["--head", "--pooling", "last"], "--pooling has no effect"),
    "unknown pooling": (PAIRS, ["--pooling", "max"], "not one of mean, last"),
    "schema of labels": (LABELLED, ["--answer_schema", "schema.json"], "--answer_schema has no effect"),
    "one label": ([{**row, "label": "even"} for row in LABELLED], ["--head"], "'even' alone"),
    "names for scores": (NAMED, [], "the label in 'label' is 'entailment'"),
    "negative scores": ([{**row, "label": -1} for row in PAIRS], [], "Give numbers from 0"),
    "tags too few": ([*TAGGED, {"tokens": ["a", "b"], "tags": ["O"]}], [], "row 21: 2 words in 'tokens', but 1 tags"),
    "tags as numbers": ([{"tokens": ["a"], "tags": [1]}] * 20, [], "a number without a name"),
    "spans outside": (
        [{"text": "abc", "spans": [{"start": 1, "end": 9, "label": "x"}]}] * 20,
        [],
        "from 1 to 9, the text has 3 characters",
    ),
    "empty text": ([{**row, "text": ""} for row in LABELLED], ["--head"], "column 'text' is empty"),
    "texts cut": (LABELLED, ["--head", "--max_seq_len", "2"], "rows are longer than 2 tokens"),
    "unknown loss": (LABELLED, ["--loss", "focall"], "Did you mean 'focal'?"),
    "loss of pairs for labels": (LABELLED, ["--head", "--loss", "contrastive"], "compares two texts"),
    "loss of pairs for text": (LABELLED, ["--loss", "contrastive"], "compares two texts"),
    "loss of labels for pairs": (PAIRS, ["--loss", "focal"], "--loss focal scores labels"),
    "kwargs without a loss": (LABELLED, ["--loss_kwargs", "gamma=2"], "--loss_kwargs"),
    "unknown kwargs": (LABELLED, ["--loss", "focal", "--loss_kwargs", "gama=2"], "can't be made with --loss_kwargs gama=2"),
    "teacher without distillation": (LABELLED, ["--teacher", "somewhere"], "--teacher needs --loss distillation"),
    "distillation without a teacher": (LABELLED, ["--loss", "distillation"], "--loss distillation needs --teacher"),
    "teacher that isn't": (LABELLED, ["--loss", "distillation", "--teacher", "./nowhere"], "nowhere"),
    "no loss file": (LABELLED, ["--loss", "nowhere.py:Mean"], "there is no file nowhere.py"),
    "no such module": (LABELLED, ["--loss", "losses.py:Meen"], "Did you mean 'Mean'?"),
    "a function": (LABELLED, ["--loss", "losses.py:function"], "no subclass of torch.nn.Module"),
    "wrong signature": (LABELLED, ["--head", "--loss", "losses.py:Sum"], "training calls forward(logits, labels)"),
    "no scalar": (LABELLED, ["--head", "--loss", "losses.py:Many"], "not one number"),
    "no gradient": (LABELLED, ["--loss", "losses.py:Frozen"], "without a gradient"),
    "not a number": (LABELLED, ["--head", "--loss", "losses.py:Undefined"], "returns nan"),
    "signature for pairs": (PAIRS, ["--loss", "losses.py:Mean"], "forward(output1, output2, label)"),
    "unknown metric": (LABELLED, ["--eval_metrics", "acuracy"], "Did you mean 'accuracy'?"),
    "metric of another task": (LABELLED, ["--head", "--eval_metrics", "bleu"], "--eval_metrics bleu compares text"),
    "metric without rows": (LABELLED, ["--eval_metrics", "f1", "--validation_fraction", "0"], "--eval_metrics needs validation rows"),
    "best by nothing": (LABELLED, ["--metric_for_best_model", "bleu"], "--metric_for_best_model bleu: no such figure is made"),
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder with its own cache."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    return work


@pytest.mark.parametrize("name", CASES)
def test_bad_tasks(name: str, place: Path, tiny_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows, more, words = CASES[name]
    (place / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (place / "losses.py").write_text(MODULES)
    (place / "weights.json").write_text('{"evne": 2}')
    status = main(["finetune", "rows.jsonl", "-m", str(tiny_folder), "--max_steps", "2", "-o", "out", *more])
    captured = capsys.readouterr()
    errors = [line for line in captured.err.splitlines() if line.startswith("tunesmith: error:")]
    assert status == 2, captured.err
    assert len(errors) == 1, captured.err
    assert words in errors[0]
    assert "Traceback" not in captured.err
    assert not (place / "out").exists()
