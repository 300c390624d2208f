"""The table of tasks in docs/results.md: every task on real data, through the public commands, beside what costs nothing.

usage: python benchmarks/tasks.py DATA_FOLDER [NAME …] [--work FOLDER] [--write docs/results.md]

DATA_FOLDER holds banking77/, snips/, wnut17/, e2e_nlg/ and debian_packages/ with train.jsonl and test.jsonl. NAMEs choose experiments
(default: all). A run that is in WORK already is not trained again, only measured; figures stay in WORK/tasks.jsonl, so the table can be
made in pieces.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LORA = ("--method", "lora", "--per_device_train_batch_size", "32", "--no-verdict")
COMMON = (*LORA, "--learning_rate", "1e-3")
CHAT = "<|im_start|>user\\n{text}<|im_end|>\\n<|im_start|>assistant\\n{label}<|im_end|>"
BY_SPANS = ("--eval_strategy", "epoch", "--eval_metrics", "span_f1", "--metric_for_best_model", "span_f1")
AS_TEXT = ("--task", "text-classification", "--text_template", CHAT, "--validation_fraction", "0", "--show_answers", "0")
WIDER = ("--lora_r", "32", "--lora_alpha", "64", "--lora_dropout", "0.05")
HEAD = ("--head", "--validation_fraction", "0.05", "--eval_strategy", "epoch", "--eval_metrics", "accuracy")


@dataclass(frozen=True)
class Experiment:
    """One row of the table.

    Attributes:
        data: folder of the data set.
        finetune: flags of ``tunesmith finetune``.
        metrics: for ``tunesmith evaluate``.
        shown: figures that the table shows, and what they are called.
        evaluate: further flags of ``tunesmith evaluate``.
        baseline: what is answered without a model, and how that is called.
        columns: of the prompt and the right answer, for the baseline.
    """

    data: str
    finetune: tuple[str, ...]
    metrics: str
    shown: dict[str, str]
    evaluate: tuple[str, ...] = ()
    baseline: tuple[str, Callable[[Any, list[str]], list[str]]] | None = None
    columns: tuple[str, str] = ("text", "label")


def by_words(train: Any, prompts: list[str]) -> list[str]:
    """Label prompts by TF-IDF and logistic regression."""
    from tunesmith.evaluate.baselines import tfidf_logistic_regression

    return tfidf_logistic_regression(train, prompts) or []


def first_sentence(_: Any, prompts: list[str]) -> list[str]:
    """Answer with the first sentence."""
    from tunesmith.evaluate.baselines import lead

    return [lead(prompt, 1) for prompt in prompts]


ACCURACY = {"accuracy": "accuracy", "f1_macro": "macro F1", "ece": "calibration error"}
WORDS = ("TF-IDF + logistic regression", by_words)
EXPERIMENTS = {
    "banking77, head": Experiment(
        "banking77",
        (*COMMON, *HEAD, "--num_train_epochs", "3", "--metric_for_best_model", "accuracy"),
        "accuracy,f1,calibration",
        ACCURACY,
        baseline=WORDS,
    ),
    "banking77, as text": Experiment(
        "banking77",
        (*LORA, *AS_TEXT, *WIDER, "--class_weights", "balanced", "--learning_rate", "7e-4", "--num_train_epochs", "3"),
        "accuracy,f1,calibration",
        ACCURACY,
        baseline=WORDS,
    ),
    "snips intents, head": Experiment(
        "snips",
        ("--task", "text-classification", *COMMON, *HEAD, "--num_train_epochs", "2", "--metric_for_best_model", "accuracy"),
        "accuracy,f1,calibration",
        ACCURACY,
        baseline=WORDS,
    ),
    "snips slots, JSON": Experiment(
        "snips",
        ("--task", "extraction", "--map_columns", "slots=json", *COMMON, "--num_train_epochs", "1", "--validation_fraction", "0.03"),
        "extraction,exact_match",
        {"schema_valid": "schema-valid", "field_f1": "field F1", "exact_match": "exact"},
        ("--map_columns", "slots=json"),
    ),
    "wnut17, tags": Experiment(
        "wnut17",
        (*COMMON, *BY_SPANS, "--num_train_epochs", "3", "--validation_fraction", "0.1"),
        "span_f1",
        {"span_f1": "span F1", "span_precision": "precision", "span_recall": "recall"},
    ),
    "e2e_nlg": Experiment(
        "e2e_nlg",
        (*COMMON, "--num_train_epochs", "1"),
        "bleu,rouge,chrf",
        {"bleu": "BLEU", "rougeL": "ROUGE-L", "chrf": "chrF"},
        ("--reference_column", "refs", "--max_new_tokens", "96"),
    ),
    "debian_packages, summaries": Experiment(
        "debian_packages",
        ("--map_columns", "long=document,short=summary", *COMMON, "--num_train_epochs", "1", "--validation_fraction", "0.05"),
        "rouge",
        {"rouge1": "ROUGE-1", "rouge2": "ROUGE-2", "rougeL": "ROUGE-L"},
        ("--map_columns", "long=document,short=summary", "--max_new_tokens", "64"),
        baseline=("first sentence", first_sentence),
        columns=("long", "short"),
    ),
}


def tunesmith(*words: str) -> dict[str, Any]:
    """Run a command, and return the JSON that it prints."""
    done = subprocess.run([sys.executable, "-m", "tunesmith", *words, "--json"], stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def run_experiment(name: str, experiment: Experiment, data: Path, work: Path) -> dict[str, Any]:
    """Train unless that is done, then measure on the whole test file."""
    out, folder = work / name.replace(",", "").replace(" ", "-"), data / experiment.data
    if not (out / "manifest.json").is_file():
        tunesmith("finetune", str(folder / "train.jsonl"), *experiment.finetune, "--output_path", str(out), "--overwrite")
    found = tunesmith("evaluate", str(out), str(folder / "test.jsonl"), "--metrics", experiment.metrics, *experiment.evaluate)
    return {
        "name": name,
        "test_rows": found["num_rows"],
        "metrics": {key: value for key, value in found["metrics"].items() if "[" not in key},
        "words": found["words"],
        "baseline": score_baseline(experiment, folder),
    }


def score_baseline(experiment: Experiment, folder: Path) -> dict[str, float]:
    """Return the figures of the experiment's first metric for what costs nothing, on the whole test file."""
    if experiment.baseline is None:
        return {}
    from tunesmith.evaluate.baselines import Examples
    from tunesmith.metrics import load_metric

    prompt, answer = experiment.columns
    train, test = ([json.loads(line) for line in (folder / f"{name}.jsonl").open(encoding="utf-8")] for name in ("train", "test"))
    examples = Examples(tuple(row[prompt] for row in train), tuple(row[answer] for row in train))
    answers = experiment.baseline[1](examples, [row[prompt] for row in test])
    metric = load_metric(experiment.metrics.partition(",")[0])
    return dict(metric.compute(answers, [[row[answer]] for row in test]))


def table(rows: list[dict[str, Any]]) -> str:
    """Return the figures as a Markdown table."""
    lines = ["| task | test rows | tuned | without a model |", "|---|---|---|---|"]
    for row in rows:
        experiment = EXPERIMENTS[row["name"]]
        tuned = ", ".join(f"{words} {_shown(row['metrics'], key)}" for key, words in experiment.shown.items() if key in row["metrics"])
        known = ", ".join(f"{words} {_shown(row['baseline'], key)}" for key, words in experiment.shown.items() if key in row["baseline"])
        free = f"{experiment.baseline[0]}: {known}" if experiment.baseline else ""
        lines.append(f"| {row['name']} | {row['test_rows']:,} | {tuned} | {free} |")
    return "\n".join(lines)


def _shown(figures: dict[str, float], key: str) -> str:
    """Return a figure in the form in which the field gives it: shares in percent, BLEU and chrF as they are, errors as numbers."""
    value = figures[key]
    return f"{value:.1f}" if key in ("bleu", "chrf") else f"{value:.3f}" if key == "ece" else f"{100 * value:.1f}%"


def main() -> None:
    """Run what was asked for, and print the table of everything measured so far."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("names", nargs="*", help="experiments; none and --table: only print")
    parser.add_argument("--work", type=Path, default=Path("results"))
    parser.add_argument("--table", action="store_true", help="print the table of what is measured, measure nothing")
    parser.add_argument("--write", type=Path, help="replace the table between the markers in this file")
    parsed = parser.parse_args()
    parsed.work.mkdir(parents=True, exist_ok=True)
    log = parsed.work / "tasks.jsonl"
    for name in () if parsed.table else parsed.names or EXPERIMENTS:
        row = run_experiment(name, EXPERIMENTS[name], parsed.data.resolve(), parsed.work)
        with log.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")
    measured = {row["name"]: row for row in map(json.loads, log.read_text(encoding="utf-8").splitlines())} if log.exists() else {}
    text = table([measured[name] for name in EXPERIMENTS if name in measured])
    print(text)
    if parsed.write:
        begin, end = "<!-- table: benchmarks/tasks.py -->", "<!-- end of table: benchmarks/tasks.py -->"
        before, _, rest = parsed.write.read_text(encoding="utf-8").partition(begin)
        parsed.write.write_text(f"{before}{begin}\n{text}\n{end}{rest.partition(end)[2]}", encoding="utf-8")


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
